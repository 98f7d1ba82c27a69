//! `saymask predict --shards`: masks of WebDataset tars, one results file per tar, by any number of workers on one folder.

mod pipeline;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use models::run_dir::Checkpoint;
use models::{AnyModel, Found, FoundWeights};
use shards::{Claim, Output, Part, Report, State, expand};

use crate::device;
use crate::session::{ANSWERING, HalfWeights, Source, warn_unread};

/// Options of `predict --shards`.
#[derive(Debug, Args)]
pub struct ShardArgs {
    /// WebDataset tars instead of an image, such as 'in-{000000..000999}.tar': images with their sentences in .txt or .json, or asked
    /// for the sentences of the command line. Per tar, --out gets a file of results and a report
    #[arg(long, value_name = "PATTERN")]
    pub shards: Option<String>,
    /// Which of the tars: i/n with i from 0, all, or auto: what Slurm, Kubernetes, MPI or RANK and WORLD_SIZE say, else all
    #[arg(long, value_name = "PART", default_value = "auto", requires = "shards")]
    part: String,
    /// Seconds after which the claim of a worker that says nothing is taken over
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "shards")]
    claim_expiry: u64,
    /// Take the checksums of results that are there already, instead of their sizes
    #[arg(long, requires = "shards")]
    verify: bool,
}

/// How long to wait where all that is left belongs to other workers.
const WAIT: Duration = Duration::from_secs(2);

/// Runs the command; `words` are the sentences of the command line.
pub fn run(args: &ShardArgs, pattern: &str, words: &[String], out: &Path, source: &Source, half: HalfWeights) -> Result<()> {
    if words.iter().any(|word| word.trim().is_empty()) {
        bail!("a sentence is empty; say what to look for, such as \"the red circle\"");
    }
    let tars =
        part(&args.part)?.map_or_else(|| Ok::<_, anyhow::Error>(expand(pattern)?), |part| Ok(part.of(&expand(pattern)?)))?;
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot create it", out.display()))?;
    let found = source.find_kept("predict", ANSWERING, half)?;
    let job = job(&found, words)?;
    let model = found.model(&device::open(source.device())?)?;
    for word in words {
        warn_unread(&model, word)?;
    }
    Worker { args, model: &model, words, out, job: &job }.all(&tars)
}

/// What answers depend on, the same on every machine: results of another job are done again.
fn job(found: &Found, words: &[String]) -> Result<String> {
    let weights = match &found.weights {
        FoundWeights::Checkpoint(Checkpoint { manifest, .. }) => {
            format!("step {} of {}", manifest.state.step, manifest.manifest_sha256)
        }
        // What is in memory is the model that comes with this build.
        FoundWeights::Memory(_) => models::manifest::sha256(models::shipped::WEIGHTS),
        FoundWeights::Initial => found.label.clone(),
    };
    let asked = if words.is_empty() { "each image's own sentences".to_owned() } else { format!("{words:?}") };
    Ok(format!("{weights}, config {}, {asked}", found.run_config.hash()?))
}

/// The part that was asked for; none for all shards.
fn part(text: &str) -> Result<Option<Part>> {
    match text {
        "all" => Ok(None),
        "auto" => {
            let found = Part::from_scheduler(|name| std::env::var(name).ok()).context("--part auto")?;
            if let Some((part, variable)) = found {
                crate::note!("part {}/{}, as {variable} says", part.index, part.count);
            }
            Ok(found.map(|(part, _)| part))
        }
        text => Ok(Some(Part::parse(text).context("--part")?)),
    }
}

/// One process of possibly many.
struct Worker<'a> {
    args: &'a ShardArgs,
    model: &'a AnyModel,
    words: &'a [String],
    out: &'a Path,
    job: &'a str,
}

/// What became of a shard in one pass.
enum Outcome {
    /// It was done already.
    There,
    /// It is done now.
    Made(Report),
    /// Another worker has it.
    Claimed,
    /// It cannot be read at all.
    Unreadable(String),
}

impl Worker<'_> {
    /// Works until every shard is done, by whomever.
    fn all(&self, tars: &[PathBuf]) -> Result<()> {
        let mut open: Vec<&PathBuf> = tars.iter().collect();
        let (mut done, mut waits, mut unreadable) = (0, false, Vec::new());
        while !open.is_empty() {
            let before = open.len();
            let mut left = Vec::new();
            for tar in open {
                match self.one(tar).with_context(|| tar.display().to_string())? {
                    Outcome::There => done += 1,
                    Outcome::Made(report) => {
                        done += 1;
                        let Report { output, samples, failed, .. } = report;
                        crate::say!(
                            "{}  {samples} images, {failed} failed  ({done} of {} shards)",
                            self.out.join(output).display(),
                            tars.len()
                        );
                    }
                    Outcome::Claimed => left.push(tar),
                    Outcome::Unreadable(why) => {
                        crate::note!("error: {why}");
                        unreadable.push(why);
                    }
                }
            }
            if left.len() == before {
                if !waits {
                    crate::note!("waiting for the last {before} shards, which other workers have claimed");
                }
                waits = true;
                std::thread::sleep(WAIT);
            }
            open = left;
        }
        if let Some(first) = unreadable.first() {
            bail!("{} of {} shards could not be read; the first: {first}", unreadable.len(), tars.len());
        }
        Ok(())
    }

    fn one(&self, tar: &Path) -> Result<Outcome> {
        let stem = tar.file_stem().and_then(|stem| stem.to_str()).context("a tar needs a name in UTF-8")?;
        let is_done = || State::of(self.out, stem, self.job, self.args.verify) != State::Open;
        if is_done() {
            return Ok(Outcome::There);
        }
        let expiry = Duration::from_secs(self.args.claim_expiry.max(1));
        let Some(claim) = Claim::take(self.out, stem, expiry)? else { return Ok(Outcome::Claimed) };
        // Another worker may have finished it between the look and the claim.
        if is_done() {
            return Ok(Outcome::There);
        }
        if let Err(error) = std::fs::File::open(tar) {
            return Ok(Outcome::Unreadable(format!("{}: cannot open it: {error}", tar.display())));
        }
        let output = Output::begin(self.out, stem, tar, self.job, &claim.worker())?;
        match pipeline::predicted(self.model, tar, self.words, output, claim)? {
            Some(report) => Ok(Outcome::Made(report)),
            None => Ok(Outcome::Claimed),
        }
    }
}
