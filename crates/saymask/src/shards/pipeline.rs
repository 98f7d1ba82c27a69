//! One tar: decoding, the model and writing side by side, in the order of the samples.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Result, anyhow};
use models::AnyModel;
use pil_ops::{Decode, Image};
use serde_json::json;
use shards::{Claim, Fault, Output, Report, Sample, Samples};

/// Decoded images that wait for the model; memory does not grow with the tar.
const DECODED: usize = 4;
/// Lines that wait for the disk.
const LINES: usize = 64;

/// An image and what is asked about it.
struct Job {
    key: String,
    image: Image,
    sentences: Vec<String>,
}

/// Predicts every sample of a tar; none where the claim was lost meanwhile.
pub(super) fn predicted(
    model: &AnyModel,
    tar: &Path,
    words: &[String],
    output: Output,
    mut claim: Claim,
) -> Result<Option<Report>> {
    thread::scope(|scope| {
        let (jobs, decoded) = sync_channel(DECODED);
        let (lines, written) = sync_channel(LINES);
        let reader = scope.spawn(move || read(tar, words, &jobs));
        let writer = scope.spawn(move || write(output, &written));
        let mut is_ours = true;
        // Ends when the reader does; dropping the receiver ends the reader.
        for job in decoded {
            let line = job.and_then(|job| answered(model, job));
            if lines.send(line).is_err() {
                break;
            }
            is_ours = claim.renew();
            if !is_ours {
                break;
            }
        }
        drop(lines);
        let join = |error| anyhow!("a thread of the pipeline ended: {error:?}");
        let read = reader.join().map_err(join)?;
        let output = writer.join().map_err(join)??;
        read?;
        if !is_ours || !claim.is_ours() {
            return Ok(None);
        }
        match output.finish() {
            Ok(report) => Ok(Some(report)),
            // Taken over at the last moment: the other worker has removed what was written aside.
            Err(_) if !claim.is_ours() => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
}

/// Reads and decodes.
fn read(tar: &Path, words: &[String], jobs: &SyncSender<Result<Job, Fault>>) -> Result<()> {
    let decode = |sample: Sample| {
        let Sample { key, image, sentences } = sample;
        // The command line's sentences are asked of every image; else its own.
        let sentences = if words.is_empty() { sentences } else { words.to_vec() };
        if sentences.is_empty() {
            return Err(Fault { key, what: "has no sentences (.txt or .json), and the command line has none".into() });
        }
        match Decode::UPRIGHT.bytes(&image) {
            Ok(image) => Ok(Job { key, image, sentences }),
            Err(error) => Err(Fault { key, what: error.to_string() }),
        }
    };
    Ok(Samples::read(tar, |sample| jobs.send(sample.and_then(decode)).is_ok())?)
}

/// A sample's line of results.
fn answered(model: &AnyModel, job: Job) -> Result<String, Fault> {
    let Job { key, image, sentences } = job;
    let words: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let found = match model.predict(&image, &words) {
        Ok(found) => found,
        Err(error) => return Err(Fault { key, what: error.to_string() }),
    };
    let entry = |(sentence, found): (&String, sam_vit::Prediction)| {
        json!({
            "sentence": sentence,
            "segmentation": { "size": [found.mask.height(), found.mask.width()], "counts": found.mask.to_compressed() },
            "bbox": found.bbox,
            "score": found.score,
        })
    };
    let predictions: Vec<_> = sentences.iter().zip(found).map(entry).collect();
    Ok(json!({ "key": key, "width": image.width(), "height": image.height(), "predictions": predictions }).to_string())
}

/// Writes lines and counts faults, in order.
fn write(mut output: Output, lines: &Receiver<Result<String, Fault>>) -> Result<Output> {
    for line in lines {
        match line {
            Ok(line) => output.sample(&line)?,
            Err(fault) => output.failed(fault),
        }
    }
    Ok(output)
}
