//! `saymask track`: what sentences say about a film's first frame, or points, boxes and masks on any frame, followed through the film
//! (EVF-SAM on SAM-2, and SAM-2 itself).

mod film;
mod folder;
mod frames;
mod pipe;
mod prompts;
mod tracker;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use coco_mask::Rle;
use figures::{Mask, captioned, colour};
use models::AnyModel;
use nn_ops::weights::StateDict;
use sam_vit::Weights;
use sam2::FrameMask;
use serde_json::{Value, json};

use crate::device;
use crate::segment::{ModelName, Segmenter};
use crate::session::{ANSWERING, Source, warn_unread};
use folder::{Film, TrackFolder};
use frames::{Frames, NumberedFrame};
use prompts::{PromptArgs, Prompts};
use tracker::{Model, Tracker};

/// Time between two lines of progress.
const EVERY: Duration = Duration::from_secs(5);

/// Options of `track`.
#[derive(Debug, Args)]
pub struct TrackArgs {
    /// A folder of numbered .jpg or .png files; an animated GIF, PNG or WebP; or any film that ffmpeg reads.
    frames: PathBuf,
    /// What to follow, as it is on the first frame; several sentences give several masks per frame.
    #[arg(required_unless_present_any = ["points", "boxes", "masks", "file"])]
    sentences: Vec<String>,
    #[command(flatten)]
    prompts: PromptArgs,
    /// Folder for masks, overlays and the film. Called again with the same film and sentences, it goes on where it was.
    #[arg(long, value_name = "FOLDER", default_value = "track")]
    out: PathBuf,
    /// Begin anew where --out holds masks of another film, of other sentences or other weights.
    #[arg(long)]
    restart: bool,
    /// Frames after which what is needed to go on is kept again.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    keep_every: u64,
    /// Stop before this frame, counted from 0; the rest can be done later.
    #[arg(long, value_name = "N")]
    until: Option<usize>,
    /// Frames per second of film.gif; 0 makes none.
    #[arg(long, value_name = "N", default_value_t = 10)]
    fps: u32,
    /// Frames side by side in strip.png, evenly chosen; 0 makes none.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=12))]
    strip: u8,
    #[command(flatten)]
    source: Source,
}

/// Runs the command.
pub fn run(args: &TrackArgs) -> Result<()> {
    if args.sentences.iter().any(|s| s.trim().is_empty()) {
        bail!("a sentence is empty; say what to follow, such as \"the zebra on the left\"");
    }
    let prompts = Prompts::read(&args.prompts, args.sentences.len())?;
    let mut frames = Frames::open(&args.frames)?;
    if let (Some(of), Some(last)) = (frames.known(), prompts.last_frame())
        && last >= of
    {
        bail!("{}: has {of} frames, counted from 0, but a prompt is on frame {last}", args.frames.display());
    }
    let (model, label) = open_model(args)?;
    let film = Film {
        frames: args.frames.display().to_string(),
        sentences: args.sentences.clone(),
        prompts: prompts.line()?,
        weights: label,
        changes: args.source.set().to_vec(),
    };
    model.sam2()?;
    let folder = TrackFolder::open(&args.out, &film, args.restart)?;
    let tracker = Tracker::new(&model, &args.sentences, &prompts);
    let files = frames.files();
    // A film that comes one way only is not followed back.
    let back = if files.is_empty() { 0 } else { tracker.way_back() };
    let (mut done, tracker) = match folder.state()? {
        Some((done, state)) => {
            crate::note!("{}: going on behind {done} frames", args.out.display());
            let seen = if back > 0 { done.min(files.len()) } else { done };
            (done, tracker.resumed(&state, seen)?)
        }
        None => (0, tracker),
    };
    let names = tracker.names();
    let mut work = Work { tracker, folder: &folder, names: &names, every: usize::try_from(args.keep_every)?, kept: done };
    let mut progress = Progress::new(frames.known().map(|frames| frames + back), done);
    let ahead = if files.is_empty() { done } else { done.min(files.len()) };
    frames.leave_out(ahead)?;
    while args.until.is_none_or(|until| done < until) {
        let Some(frame) = frames.next().transpose()? else { break };
        work.frame(done, done, &frame, false)?;
        done += 1;
        work.keep(done, false)?;
        progress.step(done);
    }
    if done == 0 {
        bail!("{}: no frame in it", args.frames.display());
    }
    let seen = if files.is_empty() { done } else { done.min(files.len()) };
    if args.until.is_none() {
        if let Some(last) = prompts.last_frame().filter(|last| *last >= seen) {
            bail!("{}: has {seen} frames, counted from 0, but a prompt is on frame {last}", args.frames.display());
        }
        if files.is_empty() && work.tracker.way_back() > 0 {
            crate::note!(
                "a film of this kind is read forwards only: what lies before a prompt is not followed; a folder of frames is"
            );
        }
        for number in (0..back).rev().skip(done - seen) {
            work.frame(number, done, &frames::numbered_frame(&files[number])?, true)?;
            done += 1;
            work.keep(done, false)?;
            progress.step(done);
        }
    }
    work.keep(done, true)?;
    progress.finish(done);
    let report = folder.report(&film, seen)?;
    let kind = if names.len() == args.sentences.len() { "sentences" } else { "objects" };
    crate::say!("{}: {seen} frames, {} {kind}", report.display(), names.len());
    if args.strip > 0 {
        let path = folder.path("strip.png");
        film::strip(&path, &folder.overlays(seen)?, usize::from(args.strip))?;
        crate::say!("{}", path.display());
    }
    if args.fps > 0 {
        let path = folder.path("film.gif");
        film::write(&path, &folder.overlays(seen)?, args.fps)?;
        crate::say!("{}", path.display());
    }
    Ok(())
}

/// The model, and what its weights are in words. Weights of SAM-2 itself serve where nothing is said in sentences.
fn open_model(args: &TrackArgs) -> Result<(Model, String)> {
    let device = device::open(args.source.device())?;
    if let (true, Some(file)) = (args.sentences.is_empty(), args.source.weight_file()) {
        if let Some(setting) = args.source.set().first() {
            bail!("--set {setting}: weights of SAM-2 itself come without a config");
        }
        let opened = Segmenter::open(&StateDict::open_model(file)?, ModelName::Auto, Weights::Single, &device)?;
        let Segmenter::Sam2(sam2) = opened else {
            bail!("{}: only SAM-2 follows objects through films; these weights are of another model", file.display());
        };
        return Ok((Model::Sam2(sam2), file.display().to_string()));
    }
    let found = args.source.find("track", ANSWERING)?;
    let model = found.model(&device)?;
    args.sentences.iter().try_for_each(|sentence| warn_unread(&model, sentence))?;
    let AnyModel::Evf(evf) = model else {
        bail!("only EVF-SAM on SAM-2 follows objects through films; these weights are of another method");
    };
    Ok((Model::Evf(Box::new(evf)), found.label))
}

/// A film on its way into its folder.
struct Work<'a> {
    tracker: Tracker<'a>,
    folder: &'a TrackFolder,
    names: &'a [String],
    /// Frames after which what is needed to go on is kept.
    every: usize,
    /// Frames that were done when it was kept last.
    kept: usize,
}

impl Work<'_> {
    /// Follows the objects to a frame, and writes masks and overlay. What was done before a frame that cannot be used is not lost.
    fn frame(&mut self, number: usize, done: usize, frame: &NumberedFrame, back: bool) -> Result<()> {
        let masks = if back { self.tracker.backward(number, &frame.image) } else { self.tracker.forward(number, &frame.image) };
        let written = masks.and_then(|masks| self.write(number, frame, &masks, back));
        if let Err(error) = written {
            self.keep(done, true)?;
            return Err(error.context(format!("frame {}", frame.name)));
        }
        Ok(())
    }

    /// Keeps what is needed to go on, at times or `now`.
    fn keep(&mut self, done: usize, now: bool) -> Result<()> {
        if self.kept < done && (now || done.is_multiple_of(self.every)) {
            self.folder.keep(done, &self.tracker.state()?)?;
            self.kept = done;
        }
        Ok(())
    }

    /// Writes a frame's masks; on the way back beside those that it has.
    fn write(&self, number: usize, frame: &NumberedFrame, masks: &[FrameMask], back: bool) -> Result<()> {
        let mut entries: Vec<Value> = if back { self.folder.masks_of(number)? } else { Vec::new() };
        for mask in masks {
            entries.retain(|entry| entry["object"] != mask.object);
            entries.push(described(mask, &self.names[mask.object as usize - 1])?);
        }
        entries.sort_by_key(|entry| entry["object"].as_u64());
        let pixels = frame.image.to_rgb8();
        let (width, height) = pixels.dimensions();
        let mut drawn = Vec::with_capacity(entries.len());
        for entry in &entries {
            let object = entry["object"].as_u64().context("an entry without its object")? as usize;
            let counts = entry["segmentation"]["counts"].as_str().context("an entry without its mask")?;
            let bytes = Rle::from_compressed(height, width, counts)?.to_row_major();
            let suffix = if self.names.len() == 1 { String::new() } else { format!("-{object}") };
            self.folder.mask(&format!("{}{suffix}.png", frame.name), &bytes, (width, height))?;
            drawn.push((bytes, colour::MASKS[(object - 1) % colour::MASKS.len()]));
        }
        let layers = drawn.iter().map(|(bytes, colour)| Ok((Mask::new(width, height, bytes)?, *colour)));
        let layers: Vec<_> = layers.collect::<Result<_>>()?;
        self.folder.overlay(number, &captioned(&pixels, &layers, &self.names.join(" / "))?)?;
        let entry = json!({ "frame": number, "name": frame.name, "width": width, "height": height, "masks": entries });
        self.folder.entry(number, &entry)
    }
}

/// What is said about an object on a frame, with its mask as COCO's runs.
fn described(mask: &FrameMask, name: &str) -> Result<Value> {
    let found = mask.prediction()?;
    Ok(json!({
        "object": mask.object,
        "sentence": name,
        "present": mask.is_present(),
        "object_score": mask.object_score,
        "score": found.score,
        "bbox": found.bbox,
        "area": found.mask.area(),
        "segmentation": { "size": [found.mask.height(), found.mask.width()], "counts": found.mask.to_compressed() },
    }))
}

/// Frames per second on stderr, a line at times; on a terminal in place.
struct Progress {
    of: Option<usize>,
    from: usize,
    begun: Instant,
    told: Instant,
    terminal: bool,
}

impl Progress {
    fn new(of: Option<usize>, from: usize) -> Self {
        Self { of, from, begun: Instant::now(), told: Instant::now(), terminal: std::io::stderr().is_terminal() }
    }

    fn rate(&self, done: usize) -> f64 {
        (done - self.from) as f64 / self.begun.elapsed().as_secs_f64().max(1e-9)
    }

    fn step(&mut self, done: usize) {
        if self.told.elapsed() < if self.terminal { EVERY / 5 } else { EVERY } {
            return;
        }
        self.told = Instant::now();
        let rate = self.rate(done);
        let (of, left) = match self.of {
            Some(of) => (format!("/{of}"), format!("  {:.0} s left", of.saturating_sub(done) as f64 / rate.max(1e-9))),
            None => Default::default(),
        };
        crate::note!("frame {done}{of}  {rate:.2} frames/s{left}");
    }

    fn finish(&self, done: usize) {
        crate::note!("{} frames at {:.2} frames/s", done - self.from, self.rate(done));
    }
}

/// What failed, with the file that it happened to.
fn at<T, E: Into<anyhow::Error>>(path: &Path, result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(Into::into).with_context(|| path.display().to_string())
}
