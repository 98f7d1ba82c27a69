//! The training loop.

use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsAccumulator;
use burn::tensor::Device;
use metrics::Report;
use nn_ops::weights::{freeze_unless, name_ids, trained};
use refcoco_data::Dataset;

use crate::average;
use crate::cache::FeatureCache;
use crate::data::{EvalData, TrainData};
use crate::error::TrainError;
use crate::evaluate::{Judged, evaluate, profile};
use crate::finite::{self, NotFinite};
use crate::journal::{EvalLine, Journal, Skipped, StepLine, TimingLine, read_journal};
use crate::manifest::{Best, Skips};
use crate::optimise::{Optimisers, clip};
use crate::plan::{Recompute, RunPlan, Select};
use crate::precision;
use crate::report;
use crate::run_dir::{Damaged, RunDir};
use crate::schedule::Schedule;
use crate::segmenter::Segmenter;
use crate::shards::Shards;
use crate::state::{Training, evaluated_weights};
use crate::statistics;

/// Steps in a row without finite gradients after which a run is given up.
const GIVE_UP: u64 = 20;

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// Training is about to begin.
    Start {
        /// Step to begin with.
        step: u64,
        /// Steps in all.
        total: u64,
        /// Parameters in all, and those that are trained.
        parameters: (usize, usize),
        /// Referents and sentences of the training split.
        items: (usize, usize),
    },
    /// A step is done.
    Step {
        /// Steps done.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Its learning rate.
        lr: f64,
    },
    /// Features of a frozen image encoder are computed and kept.
    Caching {
        /// Pictures done.
        done: usize,
        /// Pictures in all.
        of: usize,
    },
    /// An evaluation goes on.
    Evaluating {
        /// Expressions judged.
        done: usize,
        /// Expressions in all.
        of: usize,
        /// Split.
        split: &'a str,
    },
    /// An evaluation is done.
    Evaluated {
        /// Steps done.
        step: u64,
        /// Its figures.
        report: &'a Report,
        /// Whether it is the best so far.
        best: bool,
    },
    /// Something worth knowing.
    Note(String),
}

/// Receives what a run tells.
pub type Tell<'a> = dyn FnMut(Event<'_>) + 'a;

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
    /// Seconds spent in training steps and evaluations by this process.
    pub seconds: f64,
}

/// Trains, or continues where the last whole checkpoint stands.
///
/// # Errors
/// Data, weights or a plan that do not fit; a file system that refuses; a loss that stops being a number.
pub fn train<S: Segmenter>(
    segmenter: &S,
    plan: &RunPlan,
    data: Arc<Dataset>,
    device: &Device,
    resume: bool,
    tell: &mut Tell<'_>,
) -> Result<Summary, TrainError> {
    let accumulate = plan.optim.accumulate.max(1) as u64;
    precision::check_training(plan, device)?;
    // A wrong profile must not surface after hours of training.
    profile(plan)?;
    let train_data = TrainData::open(plan, data.clone(), segmenter.normalisation())?;
    let per_epoch = train_data.sampler.steps_per_epoch() as u64 / accumulate;
    let schedule = Schedule::new(plan, per_epoch)?;
    let total = schedule.total_steps();
    let first = plan.data.val_splits.first().map(|split| EvalData::open(plan, split, segmenter.normalisation())).transpose()?;

    let graph = graph(plan, device);
    let mut training = begin(segmenter, plan, &graph)?;
    let cache = FeatureCache::prepare(segmenter, &training.net, plan, &data, device, tell)?;
    let train_data = train_data.with_features(cache);
    let (dir, mut journal) = if resume {
        let dir = RunDir::resume(plan)?;
        let found = dir.latest_whole()?;
        for Damaged { path, reason } in &found.damaged {
            tell(Event::Note(format!("skipped the damaged checkpoint {}: {reason}", path.display())));
        }
        if let Some(checkpoint) = found.checkpoint {
            checkpoint.check_plan(plan)?;
            training = training.restore(&checkpoint)?;
            tell(Event::Note(format!("continuing from {}", checkpoint.path.display())));
        } else {
            tell(Event::Note("no whole checkpoint yet: starting at step 0".into()));
        }
        dir.discard_after(training.step)?;
        let (journal, _) = Journal::resume(&dir, training.step)?;
        (dir, journal)
    } else {
        let dir = RunDir::create(plan)?;
        let journal = Journal::create(&dir)?;
        (dir, journal)
    };

    let trainable: usize = trained(&training.net, &segmenter.names()).iter().map(|p| p.elements).sum();
    if trainable == 0 {
        let expected = "patterns that leave something to train; to judge weights as they are, use eval";
        return Err(plan.value_error("model.freeze", format!("{:?}", plan.model.freeze), expected).into());
    }
    tell(Event::Start {
        step: training.step,
        total,
        parameters: (training.net.num_params(), trainable),
        items: (data.referents.len(), data.sentences()),
    });

    let shards = Shards::new(plan, segmenter)?;
    let normed = !statistics::kept(&training.net).is_empty();
    let begun = Instant::now();
    let end = plan.train.stop_after.map_or(total, |n| n.min(total));
    let mut batches = train_data.batches(training.step * accumulate, end * accumulate);
    let (mut waited, mut items, mut since) = (0.0, 0usize, Instant::now());
    while training.step < end {
        let step = training.step;
        // Dropout draws from the device's generator: a pure function of seed and step makes resuming exact.
        device.seed(plan.run.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step));
        let mut grads = GradientsAccumulator::new();
        let mut loss_value = 0.0;
        let statistics = normed.then(|| statistics::kept(&training.net));
        for _ in 0..accumulate {
            let waiting = Instant::now();
            let Some(batch) = batches.next().transpose()? else { break };
            waited += waiting.elapsed().as_secs_f64();
            items += batch.len();
            for (loss, part) in shards.gradients(segmenter, &training.net, &batch, &graph, 1.0 / accumulate as f64)? {
                loss_value += loss;
                grads.accumulate(&training.net, part);
            }
        }
        let (grads, norm) = clip(&training.net, grads.grads(), plan.optim.grad_clip);
        let lr = schedule.lr(step);
        let (mut skipped, mut gives_up) = (None, None);
        if loss_value.is_finite() && norm.is_finite() {
            training.skips.in_a_row = 0;
            training.net = training.optimisers.step(lr, training.net, grads);
            if let Some(average) = training.average.take() {
                training.average = Some(average::update(average, &training.net, plan.train.ema.decay_at(step)));
            }
        } else {
            training.skips.all += 1;
            training.skips.in_a_row += 1;
            if let Some(before) = statistics {
                training.net = statistics::restore(training.net, before);
            }
            let not_finite = finite::find(&training.net, &grads, &segmenter.names());
            let found = NotFinite::describe(not_finite.as_ref());
            let what = format!("step {}: loss {loss_value}, gradient norm {norm}; {found}; the step is skipped", step + 1);
            tell(Event::Note(what));
            skipped = Some(Skipped { times: training.skips.all, found: not_finite });
            if training.skips.in_a_row >= GIVE_UP {
                gives_up = Some(TrainError::Diverged { step: step + 1, loss: loss_value, norm, times: GIVE_UP, found });
            }
        }
        training.step += 1;
        let (step, epoch) = (training.step, step / per_epoch);
        tell(Event::Step { step, loss: loss_value, lr });
        let out_of_time = plan.train.time_limit_minutes.is_some_and(|m| begun.elapsed().as_secs_f64() > m * 60.0);
        let last = step == end || out_of_time;
        let due_line = last || due(step, plan.train.log_every);
        if due_line || skipped.is_some() {
            let parts = Default::default();
            journal.step(StepLine { step, epoch, loss: loss_value, lr, grad_norm: norm, skipped, parts })?;
        }
        if let Some(error) = gives_up {
            journal.sync()?;
            return Err(error);
        }
        if due_line {
            let seconds = since.elapsed().as_secs_f64().max(1e-9);
            journal.timing(&TimingLine {
                step,
                seconds: begun.elapsed().as_secs_f64(),
                items_per_second: items as f64 / seconds,
                waiting: (waited / seconds).min(1.0),
            })?;
            (waited, items, since) = (0.0, 0, Instant::now());
        }
        let judge = first.is_some() && (due(step, plan.train.eval_every) || (step == total && end == total));
        if judge && let Some(split) = &first {
            let net = training.evaluated();
            let (report, _) = judged(segmenter, &net, split, plan, None, device, tell)?;
            let best = note_best(&mut training.best, &report, plan, step);
            tell(Event::Evaluated { step, report: &report, best });
            journal.eval(eval_line(&report, step, epoch))?;
            since = Instant::now();
        }
        if judge || last || due(step, plan.train.save_every) {
            journal.sync()?;
            training.save(&dir, plan, segmenter, step / per_epoch)?;
            dir.prune(step, plan.train.keep, training.best.as_ref().map(|b| b.step))?;
        }
        if out_of_time {
            tell(Event::Note(format!("train.time_limit_minutes reached at step {step} of {total}")));
            break;
        }
    }
    let curves = crate::curves::curves_svg(&plan.run.name, &read_journal(&dir.log())?);
    crate::run_dir::write_whole(&dir.curves(), curves.as_bytes())?;

    let mut summary = Summary {
        step: training.step,
        total,
        judged_step: training.step,
        reports: Vec::new(),
        shuffled: None,
        seconds: 0.0,
        dir,
    };
    if training.step >= total {
        finish(segmenter, plan, &training, first, device, &mut summary, tell)?;
    }
    summary.seconds = begun.elapsed().as_secs_f64();
    Ok(summary)
}

/// Judges the best weights on every split, with and without its own sentences, and leaves results and pictures.
fn finish<S: Segmenter>(
    segmenter: &S,
    plan: &RunPlan,
    training: &Training<S::Net>,
    first: Option<EvalData>,
    device: &Device,
    summary: &mut Summary,
    tell: &mut Tell<'_>,
) -> Result<(), TrainError> {
    let best = training.best.as_ref().map_or(training.step, |b| b.step);
    let path = summary.dir.checkpoint_path(best);
    let mut net = training.evaluated();
    if best != training.step {
        net = evaluated_weights(net, &crate::run_dir::Checkpoint::open(&path)?)?;
    }
    summary.judged_step = best;
    let rest = plan.data.val_splits.iter().skip(1).map(|split| EvalData::open(plan, split, segmenter.normalisation()));
    for (number, split) in first.into_iter().map(Ok).chain(rest).enumerate() {
        let split = split?;
        let (report, found) = judged(segmenter, &net, &split, plan, None, device, tell)?;
        report::write_results(&summary.dir, &split, &report, &found)?;
        if number == 0 {
            report::write_pictures(&summary.dir, &split, &report, &found, plan.eval.pictures)?;
            if plan.eval.shuffled_text && split.items.len() > 1 {
                let (shuffled, _) = judged(segmenter, &net, &split, plan, Some(plan.run.seed), device, tell)?;
                report::write_shuffled(&summary.dir, &shuffled)?;
                summary.shuffled = Some(shuffled);
            }
        }
        summary.reports.push(report);
    }
    Ok(())
}

/// `device` with gradients, keeping activations as the plan says. Parameters and batches have to come from this one: tensors
/// that keep activations in different ways must not meet.
#[must_use]
pub fn graph(plan: &RunPlan, device: &Device) -> Device {
    let graph = device.clone().autodiff();
    match plan.train.recompute {
        Recompute::Operations => graph.gradient_checkpointing(),
        // Blocks are up to the forward pass: `nn_ops::recompute`.
        Recompute::None | Recompute::Blocks => graph,
    }
}

/// Fresh weights, frozen as the plan says, with optimisers and average.
///
/// # Errors
/// Weight files that do not fit.
pub fn begin<S: Segmenter>(segmenter: &S, plan: &RunPlan, graph: &Device) -> Result<Training<S::Net>, TrainError> {
    graph.seed(plan.run.seed);
    let names = segmenter.names();
    // Naming the parameters also draws those that are still lazy, in the module's order.
    let net = name_ids(segmenter.init(graph)?, &names);
    let net = freeze_unless(net, &names, |name| segmenter.trains(name) && plan.model.trains(name));
    let optimisers = Optimisers::new(&plan.optim, &net, &names);
    let average = plan.train.ema.enabled.then(|| net.valid());
    Ok(Training { net, average, optimisers, step: 0, best: None, skips: Skips::default() })
}

fn judged<S: Segmenter>(
    segmenter: &S,
    net: &S::Net,
    data: &EvalData,
    plan: &RunPlan,
    shuffle: Option<u64>,
    device: &Device,
    tell: &mut Tell<'_>,
) -> Result<(Report, Vec<Judged>), TrainError> {
    let net = &precision::seen(net, plan.eval.precision);
    let (of, split) = (data.items.len(), data.dataset.split.clone());
    evaluate(segmenter, net, data, &profile(plan)?, shuffle, device, |done| tell(Event::Evaluating { done, of, split: &split }))
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

fn note_best(best: &mut Option<Best>, report: &Report, plan: &RunPlan, step: u64) -> bool {
    let value = match plan.eval.select {
        Select::Miou => report.miou,
        Select::Oiou => report.oiou,
    };
    let better = best.as_ref().is_none_or(|b| value > b.value);
    if better {
        *best = Some(Best { metric: plan.eval.select.name().into(), value, step });
    }
    better
}

fn eval_line(report: &Report, step: u64, epoch: u64) -> EvalLine {
    let mut metrics: std::collections::BTreeMap<String, f64> =
        [("miou".to_owned(), report.miou), ("oiou".to_owned(), report.oiou)].into();
    metrics.extend(report.precision.iter().map(|p| (format!("p@{}", p.at), p.value)));
    EvalLine { step, epoch, split: report.split.clone(), profile: report.profile.clone(), samples: report.samples, metrics }
}
