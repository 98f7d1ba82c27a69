//! The models that `bench methods` and `bench train` measure: a method at a size, with fresh weights.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use text_encoders::tokenizer::WordPiece;
use trainer::plan::{Init, Method, RunPlan, Tokenizer};
use trainer::tokenizer::RunTokenizer;

use crate::device;
use crate::tidy::root;
use crate::train::{demonstration, method};

/// What the models are asked.
pub(super) const SENTENCES: [&str; 4] =
    ["the man in the red shirt on the left", "the small dog", "second chair from the right", "the blue car behind the tree"];

/// Size of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Size {
    /// The demonstration's, for trying the command out.
    Tiny,
    /// The method's recipe with ViT-B; EVF-SAM with BEiT-3 base.
    B,
    /// The method's recipe with ViT-L.
    L,
    /// The method's recipe with ViT-H.
    H,
}

/// Which models to measure, where and how often.
#[derive(Debug, Args)]
pub(super) struct Models {
    /// Method; repeatable.
    #[arg(long = "method", value_name = "METHOD", value_parser = method, default_values = ["dit", "evf", "risam"])]
    pub methods: Vec<Method>,
    /// Size; repeatable.
    #[arg(long = "size", value_enum, default_values = ["b"])]
    pub sizes: Vec<Size>,
    /// Timed passes, after those that are not.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub repeat: usize,
    /// Passes that are not timed: kernels are compiled and chosen in them.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub warm_up: usize,
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help = device::HELP)]
    pub device: String,
    /// Changes to the recipes.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Measure one case in this process and print it as JSON.
    #[arg(long, hide = true)]
    pub alone: bool,
}

impl Size {
    fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::B => "b",
            Self::L => "l",
            Self::H => "h",
        }
    }

    /// As the tables show it.
    pub(super) fn title(self) -> String {
        if self == Self::Tiny { "demonstration".into() } else { format!("ViT-{}", self.name().to_uppercase()) }
    }

    /// Width, depth, heads and blocks with global attention.
    fn encoder(self) -> Option<(usize, usize, usize, [usize; 4])> {
        match self {
            Self::Tiny => None,
            Self::B => Some((768, 12, 12, [2, 5, 8, 11])),
            Self::L => Some((1024, 24, 16, [5, 11, 17, 23])),
            Self::H => Some((1280, 32, 16, [7, 15, 23, 31])),
        }
    }

    /// What the recipe changes for this size.
    fn changes(self, of: Method) -> Vec<String> {
        let Some((width, depth, heads, [first, second, third, last])) = self.encoder() else { return Vec::new() };
        let name = of.name();
        let at = format!("model.{name}.sam.image_encoder");
        let mut set = vec![
            format!("{at}.embed_dim={width}"),
            format!("{at}.depth={depth}"),
            format!("{at}.heads={heads}"),
            format!("{at}.global_blocks=[{first}, {second}, {third}, {last}]"),
            "text.tokenizer=wordpiece".into(),
            "text.vocabulary=train-from-data".into(),
        ];
        match of {
            Method::Dit if self != Self::B => set.push("model.dit.text_transform=true".into()),
            Method::Risam => set.push(format!("model.risam.taps=[{second}, {third}, {last}]")),
            Method::Evf if self == Self::B => {
                set.extend(
                    [("dim", 768), ("layers", 12), ("heads", 12), ("ffn", 3072)].map(|(k, v)| format!("model.evf.beit3.{k}={v}")),
                );
            }
            _ => {}
        }
        set
    }
}

/// The plan of a method at a size, without weight files, and a tokenizer whose table is as large as the published one.
pub(super) fn plan(of: Method, size: Size, args: &Models) -> Result<(RunPlan, RunTokenizer)> {
    let mut set = size.changes(of);
    if args.device != "cpu" {
        // Parts of a batch are for processors.
        set.push("train.shards=1".into());
    }
    set.extend(args.set.iter().cloned());
    let mut plan = match size {
        Size::Tiny => RunPlan::resolve(demonstration(of), None, &set)?,
        _ => RunPlan::load(&root()?.join(format!("configs/{}/base.toml", of.name())), &set)?,
    };
    plan.model.init = Init::default();
    let rows = match (size, of) {
        (Size::Tiny, _) => 0,
        (_, Method::Dit) => 30_522,
        (_, Method::Evf) => 64_010,
        (_, Method::Risam) => 49_408,
    };
    let folder = std::env::temp_dir().join(format!("saymask-bench-{}", std::process::id()));
    Ok((plan, vocabulary(&folder, rows)?))
}

/// A few words and as many rows as asked for: what is read does not change what it costs.
fn vocabulary(folder: &Path, rows: usize) -> Result<RunTokenizer> {
    let mut tokens: Vec<String> = WordPiece::train(SENTENCES, 200)?.tokens().to_vec();
    tokens.extend((tokens.len()..rows).map(|i| format!("[unused{i}]")));
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let file = folder.join("vocab.txt");
    std::fs::write(&file, tokens.join("\n") + "\n").with_context(|| file.display().to_string())?;
    let loaded = RunTokenizer::load(Tokenizer::Wordpiece, &file);
    std::fs::remove_dir_all(folder)?;
    Ok(loaded?)
}

impl Models {
    /// Refuses what measures nothing.
    pub(super) fn check(&self) -> Result<()> {
        if self.repeat == 0 || self.warm_up == 0 {
            bail!("--repeat and --warm-up must be at least 1");
        }
        Ok(())
    }

    /// Runs one case in a process whose memory is the case's.
    pub(super) fn child<T: DeserializeOwned>(&self, bench: &str, of: Method, size: Size, more: &[String]) -> Result<T> {
        let mut command = Command::new(std::env::current_exe().context("this program's own path")?);
        command.args(["bench", bench, "--alone", "--method", of.name(), "--size", size.name(), "--device", &self.device]);
        command.args(["--repeat", &self.repeat.to_string(), "--warm-up", &self.warm_up.to_string()]).args(more);
        command.args(self.set.iter().flat_map(|s| ["--set", s]));
        let out = command.output().context("this program could not be started again")?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            let last = said.lines().last().unwrap_or("it said nothing").trim_start_matches("error: ");
            bail!("{} {}: {last} ({})", of.name(), size.title(), out.status);
        }
        let text = String::from_utf8_lossy(&out.stdout);
        serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(|| format!("no figures: {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every size of every method is a model that its crate accepts.
    #[test]
    fn sizes_make_valid_plans() {
        for of in [Method::Dit, Method::Evf, Method::Risam] {
            for size in [Size::Tiny, Size::B, Size::L, Size::H] {
                let args = Models {
                    methods: vec![of],
                    sizes: vec![size],
                    repeat: 1,
                    warm_up: 1,
                    device: "cpu".into(),
                    set: Vec::new(),
                    alone: false,
                };
                let (plan, tokenizer) = plan(of, size, &args).unwrap();
                let made = match of {
                    Method::Dit => trainer::models::Dit::new(&plan, tokenizer).map(|_| ()),
                    Method::Evf => trainer::models::Evf::new(&plan, tokenizer).map(|_| ()),
                    Method::Risam => trainer::models::Risam::new(&plan, tokenizer).map(|_| ()),
                };
                assert!(made.is_ok(), "{of:?} {size:?}: {made:?}");
                assert!(super::super::flops::work(&plan).unwrap().forward > 1e6);
            }
        }
    }
}
