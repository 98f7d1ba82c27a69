//! The training loop: steps, evaluations, checkpoints, and what a finished run leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use metrics::Report;
use nn_ops::weights::trained;
use refcoco_data::{Dataset, Prefetcher};

use crate::batch::HostBatch;
use crate::cache::FeatureCache;
use crate::data::{EvalData, TrainData};
use crate::error::TrainError;
use crate::evaluate::{ItemResult, evaluate, profile};
use crate::event::{Event, OnEvent};
use crate::memory;
use crate::report;
use crate::run_log::{EvalLine, RunLog, Skipped, StepLine, TimingLine, read_log, resident_mb};
use crate::schedule::Schedule;
use crate::segmenter::Segmenter;
use crate::state::Training;
use crate::statistics;
use crate::step::{StepContext, StepReport};
use crate::world::World;
use models::manifest::Best;
use models::precision;
use models::run_dir::{Checkpoint, Damaged, RunDir, write_whole};
use models::weights::evaluated_weights;
use run_config::{BatchNorms, RunConfig, Select};

/// Steps in a row without finite gradients after which a run is given up.
const GIVE_UP: u64 = 20;

/// How a run ended.
#[derive(Debug)]
pub struct Summary {
    /// The run folder.
    pub dir: RunDir,
    /// Steps done.
    pub step: u64,
    /// Steps planned.
    pub total: u64,
    /// Step of the weights that were judged at the end.
    pub judged_step: u64,
    /// Final figures, one a split.
    pub reports: Vec<Report>,
    /// Figures of the first split with sentences exchanged between expressions.
    pub shuffled: Option<Report>,
    /// The image and sentence of the first split that were answered best: something to try.
    pub example: Option<(PathBuf, String)>,
    /// Images and masks of the training split that this process could not read; others took their place.
    pub unreadable: usize,
    /// Seconds spent in training steps and evaluations by this process.
    pub seconds: f64,
}

/// Trains, or continues where the last whole checkpoint stands.
///
/// # Errors
/// Data, weights or a config that do not fit; a file system that refuses; a loss that stops being a number.
pub fn train<S: Segmenter>(
    segmenter: &S,
    run_config: &RunConfig,
    data: Arc<Dataset>,
    device: &Device,
    resume: bool,
    on_event: &mut OnEvent<'_>,
) -> Result<Summary, TrainError> {
    train_on_ranks(segmenter, run_config, data, device, &World::default(), resume, on_event)
}

/// [`train`] as one of several ranks. The first one writes the run's folder and tells of events; the others have to see that folder.
///
/// # Errors
/// As there, and a rank that is lost.
pub fn train_on_ranks<S: Segmenter>(
    segmenter: &S,
    run_config: &RunConfig,
    data: Arc<Dataset>,
    device: &Device,
    world: &World,
    resume: bool,
    on_event: &mut OnEvent<'_>,
) -> Result<Summary, TrainError> {
    let mut silent = |_: Event<'_>| {};
    let on_event: &mut OnEvent<'_> = if world.is_first() { on_event } else { &mut silent };
    precision::check_training(run_config, device)?;
    check_ranks(run_config, &data, world)?;
    // A wrong profile must not surface after hours of training.
    profile(run_config)?;
    let train_data = TrainData::open(run_config, data.clone(), segmenter.inputs())?.with_world(world);
    let schedule = Schedule::new(run_config, steps_per_epoch(run_config, &train_data))?;
    let open = |split: &String| Ok::<_, TrainError>(EvalData::open(run_config, split, segmenter.inputs())?.with_world(world));
    let first = run_config.data.val_splits.first().map(open).transpose()?;
    // A damaged image of the first split, too: figures of a part of it would not be comparable.
    first.as_ref().map_or(Ok(()), EvalData::check_images)?;
    let context = StepContext::new(segmenter, run_config, device)?.with_world(world);
    let training = if world.ranks().share_process() { world.in_turn(|| context.begin())? } else { context.begin()? };
    let cache = world.in_turn(|| FeatureCache::prepare(segmenter, &training.net, run_config, &data, device, on_event))?;
    let train_data = train_data.with_features(cache);
    let first = match first {
        Some(first) => Some(world.in_turn(|| keep_features(segmenter, &training.net, run_config, first, device, on_event))?),
        None => None,
    };
    let (dir, log, training) =
        if resume { continued(run_config, training, world, on_event)? } else { started(run_config, training, world)? };
    world.agree_on_weights(&training.net)?;
    let trainable: usize = trained(&training.net, &segmenter.names()).iter().map(|p| p.elements).sum();
    if trainable == 0 {
        let expected = "patterns that leave something to train; to judge weights as they are, use eval";
        return Err(run_config.value_error("model.freeze", format!("{:?}", run_config.model.freeze), expected).into());
    }
    if let Some(forecast) = memory::forecast(segmenter, &training.net, run_config, world.size()) {
        on_event(Event::Note(forecast));
    }
    on_event(Event::Start {
        step: training.step,
        total: schedule.total_steps(),
        parameters: (training.net.num_params(), trainable),
        items: (data.referents.len() + data.class_images.len(), data.sentences()),
    });
    let (begun, unreadable) = (Instant::now(), BTreeSet::new());
    let world = world.clone();
    let mut run =
        Run { segmenter, run_config, device, context, world, schedule, train_data, first, dir, log, begun, unreadable, on_event };
    let training = run.steps(training)?;
    run.finish(training)
}

/// A split that takes the features of its images from the config's cache, filled.
fn keep_features<S: Segmenter>(
    segmenter: &S,
    net: &S::Net,
    run_config: &RunConfig,
    split: EvalData,
    device: &Device,
    on_event: &mut OnEvent<'_>,
) -> Result<EvalData, TrainError> {
    let cache = FeatureCache::prepare_to_judge(segmenter, net, run_config, &split, device, on_event)?;
    Ok(split.with_features(cache))
}

/// Optimiser steps of an epoch.
fn steps_per_epoch(run_config: &RunConfig, data: &TrainData) -> u64 {
    data.sampler.steps_per_epoch() as u64 / run_config.optim.accumulate.max(1) as u64
}

/// Refuses ranks that would not work on the same run, or not work at all.
fn check_ranks(run_config: &RunConfig, data: &Dataset, world: &World) -> Result<(), TrainError> {
    if run_config.train.batch_size < world.size() {
        let expected = format!("at least the number of ranks, {}, over which a step's items are spread", world.size());
        return Err(run_config.value_error("train.batch_size", run_config.train.batch_size, expected).into());
    }
    world.agree("config", run_config.to_toml()?.as_bytes())?;
    let sizes = [data.images.len(), data.referents.len(), data.class_images.len(), data.sentences()];
    world.agree("training set", format!("{sizes:?}").as_bytes())
}

/// A new run folder and its log, which is the first rank's alone.
fn started<N>(
    run_config: &RunConfig,
    training: Training<N>,
    world: &World,
) -> Result<(RunDir, Option<RunLog>, Training<N>), TrainError> {
    if !world.is_first() {
        return Ok((RunDir::of(run_config), None, training));
    }
    let dir = RunDir::create(run_config)?;
    let log = RunLog::create(&dir)?;
    Ok((dir, Some(log), training))
}

/// The run folder as it stands, cut back to its newest whole checkpoint.
fn continued<N: Module>(
    run_config: &RunConfig,
    mut training: Training<N>,
    world: &World,
    on_event: &mut OnEvent<'_>,
) -> Result<(RunDir, Option<RunLog>, Training<N>), TrainError> {
    if !world.is_first() {
        let dir = RunDir::of(run_config);
        // The first rank looks for it, and cuts the folder back before any step.
        if let Some(step) = world.from_first(None::<u64>)? {
            training = training.restore(&Checkpoint::open(&dir.checkpoint_path(step))?)?;
        }
        return Ok((dir, None, training));
    }
    let dir = RunDir::resume(run_config)?;
    let found = dir.latest_whole()?;
    for Damaged { path, reason } in &found.damaged {
        on_event(Event::Note(format!("skipped the damaged checkpoint {}: {reason}", path.display())));
    }
    world.from_first(found.checkpoint.as_ref().map(|checkpoint| checkpoint.manifest.state.step))?;
    if let Some(checkpoint) = found.checkpoint {
        checkpoint.check_config(run_config)?;
        training = training.restore(&checkpoint)?;
        on_event(Event::Note(format!("continuing from {}", checkpoint.path.display())));
    } else {
        on_event(Event::Note("no whole checkpoint yet: starting at step 0".into()));
    }
    dir.discard_after(training.step)?;
    let (log, _) = RunLog::resume(&dir, training.step)?;
    Ok((dir, Some(log), training))
}

/// A run whose folder is open and whose steps can begin.
struct Run<'a, 'e, S: Segmenter> {
    segmenter: &'a S,
    run_config: &'a RunConfig,
    device: &'a Device,
    context: StepContext<'a, S>,
    world: World,
    schedule: Schedule,
    train_data: TrainData,
    first: Option<EvalData>,
    dir: RunDir,
    /// The first rank's.
    log: Option<RunLog>,
    begun: Instant,
    unreadable: BTreeSet<String>,
    on_event: &'a mut OnEvent<'e>,
}

/// Seconds spent waiting for batches, and items seen by all ranks, since the last line of `timing.jsonl`.
struct Pace {
    waited: f64,
    items: usize,
    since: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { waited: 0.0, items: 0, since: Instant::now() }
    }

    /// The next batch, with the wait for it counted.
    fn next(&mut self, batches: &mut Prefetcher<HostBatch>) -> Result<Option<HostBatch>, TrainError> {
        let waiting = Instant::now();
        let batch = batches.next().transpose()?;
        self.waited += waiting.elapsed().as_secs_f64();
        Ok(batch)
    }

    fn line(&self, step: u64, begun: Instant) -> TimingLine {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        TimingLine {
            step,
            seconds: begun.elapsed().as_secs_f64(),
            items_per_second: self.items as f64 / seconds,
            waiting: (self.waited / seconds).min(1.0),
            memory_mb: resident_mb(),
        }
    }
}

impl<S: Segmenter> Run<'_, '_, S> {
    /// All steps up to the end, with their evaluations and checkpoints.
    fn steps(&mut self, mut training: Training<S::Net>) -> Result<Training<S::Net>, TrainError> {
        let accumulate = self.run_config.optim.accumulate.max(1) as u64;
        let total = self.schedule.total_steps();
        let end = self.run_config.train.stop_after.map_or(total, |n| n.min(total));
        let mut batches = self.train_data.batches(training.step * accumulate, end * accumulate);
        let mut pace = Pace::new();
        let per_epoch = steps_per_epoch(self.run_config, &self.train_data);
        while training.step < end {
            let lr = self.schedule.lr(training.step);
            let (next, mut report) = training.step(&self.context, lr, || pace.next(&mut batches))?;
            training = next;
            pace.items += report.items;
            let step = training.step;
            (self.on_event)(Event::Step { step, loss: report.loss, lr });
            let out_of_time = match self.run_config.train.time_limit_minutes {
                Some(minutes) => self.world.from_first(self.begun.elapsed().as_secs_f64() > minutes * 60.0)?,
                None => false,
            };
            let last = step == end || out_of_time;
            let due_line = last || step.is_multiple_of(self.run_config.train.log_every.max(1));
            let unreadable = self.note_unreadable(&mut report.unreadable);
            if due_line || report.skipped.is_some() || !unreadable.is_empty() {
                self.log_step(&training, lr, report, unreadable)?;
            }
            if due_line {
                if let Some(log) = &mut self.log {
                    log.timing(&pace.line(step, self.begun))?;
                }
                pace = Pace::new();
            }
            let judge = self.first.is_some()
                && (self.run_config.train.eval_every.is_due(step, per_epoch) || (step == total && end == total));
            if judge {
                self.evaluate_first(&mut training)?;
                pace.since = Instant::now();
            }
            if judge || last || self.run_config.train.save_every.is_due(step, per_epoch) {
                self.save(&training)?;
            }
            if out_of_time {
                (self.on_event)(Event::Note(format!("train.time_limit_minutes reached at step {step} of {total}")));
                break;
            }
        }
        Ok(training)
    }

    /// Tells of samples that were replaced, of each one once; all of the step's.
    fn note_unreadable(&mut self, of_step: &mut Vec<String>) -> Vec<String> {
        for fault in of_step.iter() {
            if self.unreadable.insert(fault.clone()) {
                (self.on_event)(Event::Note(format!("{fault}; another sample takes its place")));
            }
        }
        std::mem::take(of_step)
    }

    fn epoch(&self, step: u64) -> u64 {
        step / steps_per_epoch(self.run_config, &self.train_data)
    }

    /// Writes the step's line; a run whose steps are skipped again and again ends here.
    fn log_step(
        &mut self,
        training: &Training<S::Net>,
        lr: f64,
        report: StepReport,
        unreadable: Vec<String>,
    ) -> Result<(), TrainError> {
        let (step, StepReport { loss, terms, grad_norm, skipped, .. }) = (training.step, report);
        let epoch = self.epoch(step);
        let parts = terms.into_iter().map(|(name, value)| (name.to_owned(), value.is_finite().then_some(value))).collect();
        let (line, diverged) = match skipped {
            None => (None, None),
            Some(skip) => {
                let what = format!("step {step}: loss {loss}, gradient norm {grad_norm}; {}; the step is skipped", skip.found);
                (self.on_event)(Event::Note(what));
                let diverged = TrainError::Diverged { step, loss, norm: grad_norm, times: GIVE_UP, found: skip.found };
                let line = Skipped { times: training.skips.all, found: skip.not_finite };
                (Some(line), (training.skips.in_a_row >= GIVE_UP).then_some(diverged))
            }
        };
        if let Some(log) = &mut self.log {
            log.step(StepLine { step, epoch, loss, lr, grad_norm, skipped: line, unreadable, parts })?;
            if diverged.is_some() {
                log.sync()?;
            }
        }
        diverged.map_or(Ok(()), Err)
    }

    /// Evaluates the first split and notes whether this is the best step so far.
    fn evaluate_first(&mut self, training: &mut Training<S::Net>) -> Result<(), TrainError> {
        let Some(split) = &self.first else { return Ok(()) };
        let step = training.step;
        let net = self.judged(training.evaluated())?;
        let (report, _) = evaluate_split(self.segmenter, &net, split, self.run_config, None, self.device, self.on_event)?;
        let best = note_best(&mut training.best, &report, self.run_config, step);
        (self.on_event)(Event::Evaluated { step, report: &report, best });
        let epoch = self.epoch(step);
        if let Some(log) = &mut self.log {
            log.eval(eval_line(&report, step, epoch))?;
        }
        Ok(())
    }

    /// Weights that all ranks judge alike.
    fn judged(&self, net: S::Net) -> Result<S::Net, TrainError> {
        match self.run_config.train.batch_norm {
            BatchNorms::Synchronised => Ok(net),
            BatchNorms::Local => statistics::from_first(net, &self.world),
        }
    }

    /// Writes a checkpoint, the log before it; the other ranks wait, and hold the same weights.
    fn save(&mut self, training: &Training<S::Net>) -> Result<(), TrainError> {
        self.world.agree_on_weights(&training.net)?;
        let Some(log) = &mut self.log else { return self.world.wait() };
        log.sync()?;
        training.save(&self.dir, self.run_config, self.segmenter, self.epoch(training.step))?;
        self.dir.prune(training.step, self.run_config.train.keep, training.best.as_ref().map(|b| b.step))?;
        self.world.wait()
    }

    /// Draws the curves and, at the end of the schedule, judges the best weights on every split, with and without its own
    /// sentences.
    fn finish(mut self, training: Training<S::Net>) -> Result<Summary, TrainError> {
        if self.world.is_first() {
            let curves = crate::curves::curves_svg(&self.run_config.run.name, &read_log(&self.dir.log())?);
            write_whole(&self.dir.curves(), curves.as_bytes())?;
        }
        let (step, total) = (training.step, self.schedule.total_steps());
        let (mut reports, mut shuffled, mut example, mut judged_step) = (Vec::new(), None, None, step);
        if step >= total {
            let net;
            (net, judged_step) = self.best_weights(&training)?;
            let net = self.judged(net)?;
            let first = self.first.take();
            let (segmenter, run_config, world) = (self.segmenter, self.run_config, self.world.clone());
            let open =
                |split: &String| Ok::<_, TrainError>(EvalData::open(run_config, split, segmenter.inputs())?.with_world(&world));
            let rest = run_config.data.val_splits.iter().skip(1).map(open);
            for (number, split) in first.into_iter().map(Ok).chain(rest).enumerate() {
                let mut split = split?;
                if !split.keeps_features() {
                    let (device, on_event) = (self.device, &mut *self.on_event);
                    split = world.in_turn(|| keep_features(segmenter, &net, run_config, split, device, on_event))?;
                }
                let judged = self.judge_split(&net, &split, number == 0)?;
                reports.push(judged.report);
                shuffled = shuffled.or(judged.shuffled);
                example = example.or(judged.example);
            }
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        let unreadable = self.unreadable.len();
        Ok(Summary { dir: self.dir, step, total, judged_step, reports, shuffled, example, unreadable, seconds })
    }

    /// The weights of the best step, and that step.
    fn best_weights(&self, training: &Training<S::Net>) -> Result<(S::Net, u64), TrainError> {
        let (net, best) = (training.evaluated(), training.best.as_ref().map_or(training.step, |b| b.step));
        if best == training.step {
            return Ok((net, best));
        }
        let path: PathBuf = self.dir.checkpoint_path(best);
        Ok((evaluated_weights(net, &self.segmenter.names(), &Checkpoint::open(&path)?)?, best))
    }

    /// Judges a split and writes its results; of the first split also figures, and a report with exchanged sentences.
    fn judge_split(&mut self, net: &S::Net, split: &EvalData, first: bool) -> Result<Judged, TrainError> {
        let (report, found) = evaluate_split(self.segmenter, net, split, self.run_config, None, self.device, self.on_event)?;
        let writes = self.world.is_first();
        if writes {
            report::write_results(&self.dir, split, &report, &found)?;
        }
        if !first {
            return Ok(Judged { report, shuffled: None, example: None });
        }
        let best = found.iter().max_by(|a, b| a.iou.total_cmp(&b.iou));
        let example = best.map(|best| (split.image(best.item).to_owned(), best.sentence.clone()));
        if writes {
            report::write_figures(&self.dir, split, &report, &found, self.run_config.eval.figures)?;
        }
        if !self.run_config.eval.shuffled_text || split.items.len() < 2 {
            return Ok(Judged { report, shuffled: None, example });
        }
        let seed = Some(self.run_config.run.seed);
        let (shuffled, _) = evaluate_split(self.segmenter, net, split, self.run_config, seed, self.device, self.on_event)?;
        if writes {
            report::write_shuffled(&self.dir, &shuffled)?;
        }
        Ok(Judged { report, shuffled: Some(shuffled), example })
    }
}

/// What is found out about a split at the end.
struct Judged {
    report: Report,
    shuffled: Option<Report>,
    example: Option<(PathBuf, String)>,
}

fn evaluate_split<S: Segmenter>(
    segmenter: &S,
    net: &S::Net,
    data: &EvalData,
    run_config: &RunConfig,
    shuffle: Option<u64>,
    device: &Device,
    on_event: &mut OnEvent<'_>,
) -> Result<(Report, Vec<ItemResult>), TrainError> {
    let net = &precision::seen(net, run_config.eval.precision);
    let (of, split) = (data.items.len(), data.dataset.split.clone());
    evaluate(segmenter, net, data, &profile(run_config)?, shuffle, device, |done| {
        on_event(Event::Evaluating { done, of, split: &split })
    })
}

fn note_best(best: &mut Option<Best>, report: &Report, run_config: &RunConfig, step: u64) -> bool {
    let value = match run_config.eval.select {
        Select::Miou => report.miou,
        Select::Oiou => report.oiou,
    };
    let better = best.as_ref().is_none_or(|b| value > b.value);
    if better {
        *best = Some(Best { metric: run_config.eval.select.name().into(), value, step });
    }
    better
}

fn eval_line(report: &Report, step: u64, epoch: u64) -> EvalLine {
    let mut metrics: BTreeMap<String, f64> = [("miou".to_owned(), report.miou), ("oiou".to_owned(), report.oiou)].into();
    metrics.extend(report.precision.iter().map(|p| (format!("p@{}", p.at), p.value)));
    EvalLine { step, epoch, split: report.split.clone(), profile: report.profile.clone(), samples: report.samples, metrics }
}
