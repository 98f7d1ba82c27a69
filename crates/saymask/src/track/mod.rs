//! `saymask track`: what sentences say about a film's first frame, followed through the film (EVF-SAM on SAM-2).

mod film;
mod folder;
mod frames;
mod pipe;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use figures::{Mask, captioned, colour};
use fusion_evf::{EvfPredictor, EvfVideo};
use models::AnyModel;
use sam2::FrameMask;
use serde_json::{Value, json};

use crate::device;
use crate::session::{ANSWERING, Source, warn_unread};
use folder::{Film, TrackFolder};
use frames::{Frames, NumberedFrame};

/// Time between two lines of progress.
const EVERY: Duration = Duration::from_secs(5);

/// Options of `track`.
#[derive(Debug, Args)]
pub struct TrackArgs {
    /// A folder of numbered .jpg or .png files; an animated GIF, PNG or WebP; or any film that ffmpeg reads.
    frames: PathBuf,
    /// What to follow, as it is on the first frame; several sentences give several masks per frame.
    #[arg(required = true)]
    sentences: Vec<String>,
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
    let mut frames = Frames::open(&args.frames)?;
    let found = args.source.find("track", ANSWERING)?;
    let film = Film {
        frames: args.frames.display().to_string(),
        sentences: args.sentences.clone(),
        weights: found.label.clone(),
        changes: args.source.set().to_vec(),
    };
    let model = found.model(&device::open(args.source.device())?)?;
    args.sentences.iter().try_for_each(|sentence| warn_unread(&model, sentence))?;
    let AnyModel::Evf(evf) = model else {
        bail!("only EVF-SAM on SAM-2 follows objects through films; these weights are of another method");
    };
    evf.sam2()?;
    let folder = TrackFolder::open(&args.out, &film, args.restart)?;
    let (mut done, mut video) = match folder.state()? {
        Some((done, state)) => {
            crate::note!("{}: going on behind {done} frames", args.out.display());
            (done, EvfVideo::resume(&evf, args.sentences.clone(), &state)?)
        }
        None => (0, EvfVideo::new(args.sentences.clone())),
    };
    let mut progress = Progress::new(frames.known(), done);
    frames.leave_out(done)?;
    let mut kept = done;
    while args.until.is_none_or(|until| done < until) {
        let Some(frame) = frames.next().transpose()? else { break };
        if let Err(error) = one(&evf, &mut video, &folder, args, done, &frame) {
            // What was done before a frame that cannot be used is not lost.
            if kept < done {
                folder.keep(done, &video.state()?)?;
            }
            return Err(error.context(format!("frame {}", frame.name)));
        }
        done += 1;
        if done.is_multiple_of(usize::try_from(args.keep_every)?) {
            folder.keep(done, &video.state()?)?;
            kept = done;
        }
        progress.step(done);
    }
    if done == 0 {
        bail!("{}: no frame in it", args.frames.display());
    }
    if kept < done {
        folder.keep(done, &video.state()?)?;
    }
    progress.finish(done);
    let report = folder.report(&film, done)?;
    crate::say!("{}: {done} frames, {} sentences", report.display(), args.sentences.len());
    if args.strip > 0 {
        let path = folder.path("strip.png");
        film::strip(&path, &folder.overlays(done)?, usize::from(args.strip))?;
        crate::say!("{}", path.display());
    }
    if args.fps > 0 {
        let path = folder.path("film.gif");
        film::write(&path, &folder.overlays(done)?, args.fps)?;
        crate::say!("{}", path.display());
    }
    Ok(())
}

/// Follows all sentences to a frame, and writes masks and overlay.
fn one(
    evf: &EvfPredictor,
    video: &mut EvfVideo,
    folder: &TrackFolder,
    args: &TrackArgs,
    number: usize,
    frame: &NumberedFrame,
) -> Result<()> {
    let index = i64::try_from(number)?;
    let masks = video.frame(evf, index, &frame.image)?;
    let pixels = frame.image.to_rgb8();
    let (mut entries, mut drawn) = (Vec::with_capacity(masks.len()), Vec::with_capacity(masks.len()));
    for (at, (mask, sentence)) in masks.iter().zip(&args.sentences).enumerate() {
        let (bytes, entry) = described(mask, sentence)?;
        let suffix = if masks.len() == 1 { String::new() } else { format!("-{}", at + 1) };
        folder.mask(&format!("{}{suffix}.png", frame.name), &bytes, pixels.dimensions())?;
        entries.push(entry);
        drawn.push(bytes);
    }
    let layers = drawn
        .iter()
        .enumerate()
        .map(|(at, bytes)| Ok((Mask::new(pixels.width(), pixels.height(), bytes)?, colour::MASKS[at % colour::MASKS.len()])));
    let layers: Vec<_> = layers.collect::<Result<_>>()?;
    folder.overlay(number, &captioned(&pixels, &layers, &args.sentences.join(" / "))?)?;
    let entry = json!({
        "frame": number,
        "name": frame.name,
        "width": pixels.width(),
        "height": pixels.height(),
        "masks": entries,
    });
    folder.entry(number, &entry)
}

/// A mask as bytes of 0 and 1, and what is said about it.
fn described(mask: &FrameMask, sentence: &str) -> Result<(Vec<u8>, Value)> {
    let found = mask.prediction()?;
    let entry = json!({
        "sentence": sentence,
        "present": mask.is_present(),
        "object_score": mask.object_score,
        "score": found.score,
        "bbox": found.bbox,
        "area": found.mask.area(),
        "segmentation": { "size": [found.mask.height(), found.mask.width()], "counts": found.mask.to_compressed() },
    });
    Ok((found.mask.to_row_major(), entry))
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
