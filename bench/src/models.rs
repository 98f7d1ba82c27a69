//! The models that `bench methods` and `bench train` measure: a method at a size, with fresh weights.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use models::tokenizer::RunTokenizer;
use run_config::{Init, Method, RunConfig, Tokenizer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use text_encoders::tokenizer::WordPiece;

use super::measure::{Peak, Precision, load, matrix_peak};
use super::torch::{Torch, TorchArgs};
use super::{Origin, OutputArgs, case, child, command_line};
use crate::root;
use saymask::device;
use saymask::train::{demonstration, method};

/// What the models are asked.
pub(crate) const SENTENCES: [&str; 4] =
    ["the man in the red shirt on the left", "the small dog", "second chair from the right", "the blue car behind the tree"];

/// Size of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Size {
    /// The demonstration's, for trying the command out.
    Tiny,
    /// The method's config with ViT-B; EVF-SAM with BEiT-3 base.
    B,
    /// The method's config with ViT-L.
    L,
    /// The method's config with ViT-H.
    H,
}

/// Which models to measure, where and how often, and what becomes of the figures.
#[derive(Debug, Args)]
pub(crate) struct Models {
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
    /// Changes to the configs.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Numbers that the matrix peak is measured in.
    #[arg(long, value_enum, default_value = "f32")]
    peak: Precision,
    #[command(flatten)]
    torch: TorchArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Measure nothing and print the first case's sizes, token ids and config as JSON, as tools/bench_torch.py reads them.
    #[arg(long)]
    pub describe: bool,
    /// Measure one case in this process and print it as JSON.
    #[arg(long, hide = true)]
    pub alone: bool,
}

/// What a table shows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figures<C> {
    pub origin: Origin,
    pub weights: String,
    /// Load of the machine before the first case, over one minute.
    load: Option<f64>,
    pub peak: Peak,
    /// Changes to the configs.
    #[serde(default)]
    pub set: Vec<String>,
    pub cases: Vec<C>,
}

impl<C> Figures<C> {
    /// The end of the line under a table.
    pub(crate) fn origin_line(&self) -> String {
        let load = self.load.map_or(String::new(), |l| format!(" Load before it began: {l:.1}."));
        format!("{}{load} {}.", self.peak.line(), self.origin.line())
    }

    /// The changes to the configs, in words behind "config".
    pub(crate) fn changes(&self) -> String {
        if self.set.is_empty() { String::new() } else { format!(" with {}", self.set.join(", ")) }
    }
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
    pub(crate) fn title(self) -> String {
        if self == Self::Tiny { "demonstration".into() } else { format!("ViT-{}", self.name().to_uppercase()) }
    }

    /// Width and height of the photograph: a little smaller than the canvas of the demonstration's images, or a camera's.
    pub(crate) fn photo(self) -> (usize, usize) {
        if self == Self::Tiny { (128, 96) } else { (640, 480) }
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

    /// What the config changes for this size.
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

/// The config of a method at a size, without weight files, and a tokenizer whose table is as large as the published one.
pub(crate) fn config_and_tokenizer(of: Method, size: Size, args: &Models) -> Result<(RunConfig, RunTokenizer)> {
    let mut set = size.changes(of);
    // PyTorch's side keeps what the configs recompute to save memory.
    set.push("train.recompute=none".into());
    if args.device != "cpu" {
        // Parts of a batch are for processors.
        set.push("train.shards=1".into());
    }
    set.extend(args.set.iter().cloned());
    let mut run_config = match size {
        Size::Tiny => RunConfig::resolve(demonstration(of), None, &set)?,
        _ => RunConfig::load(&root()?.join(format!("configs/{}/base.toml", of.name())), &set)?,
    };
    run_config.model.init = Init::default();
    let rows = match (size, of) {
        (Size::Tiny, _) => 0,
        (_, Method::Dit) => 30_522,
        (_, Method::Evf) => 64_010,
        (_, Method::Risam) => 49_408,
    };
    let folder = std::env::temp_dir().join(format!("saymask-bench-{}", std::process::id()));
    Ok((run_config, vocabulary(&folder, rows)?))
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
    pub(crate) fn check(&self) -> Result<()> {
        if self.repeat == 0 || self.warm_up == 0 {
            bail!("--repeat and --warm-up must be at least 1");
        }
        Ok(())
    }

    /// The first case, described.
    pub(crate) fn described(&self) -> Result<Value> {
        let (run_config, tokenizer) = config_and_tokenizer(self.methods[0], self.sizes[0], self)?;
        case::describe(self.sizes[0], &run_config, tokenizer)
    }

    /// Measures every method at every size, where `each` makes the cases of one, and the device's peak.
    pub(crate) fn gather<C>(&self, mut each: impl FnMut(Method, Size) -> Result<Vec<C>>) -> Result<Figures<C>> {
        let load = load();
        let device = device::open(&self.device)?;
        let origin = Origin::on(&self.device, &device, &command_line());
        let mut cases = Vec::new();
        for &size in &self.sizes {
            for &method in &self.methods {
                cases.extend(each(method, size)?);
            }
        }
        let peak = matrix_peak(&device, self.peak)?;
        Ok(Figures { origin, weights: "random".into(), load, peak, set: self.set.clone(), cases })
    }

    /// Runs one case in a process whose memory is the case's.
    pub(crate) fn child<T: DeserializeOwned>(&self, bench: &str, of: Method, size: Size, more: &[&str]) -> Result<T> {
        let mut command = child::this(bench)?;
        command.args(["--alone", "--method", of.name(), "--size", size.name(), "--device", &self.device]);
        command.args(["--repeat", &self.repeat.to_string(), "--warm-up", &self.warm_up.to_string()]).args(more);
        command.args(self.set.iter().flat_map(|s| ["--set", s]));
        child::figures(&mut command, "").with_context(|| format!("{} {}", of.name(), size.title()))
    }

    /// PyTorch on the same case, in the config's precision and on the same GPU if it is one of NVIDIA's; nothing without
    /// `--torch`.
    pub(crate) fn torch(&self, bench: &str, of: Method, size: Size, more: &[&str]) -> Result<Vec<Torch>> {
        if !self.torch.torch {
            return Ok(Vec::new());
        }
        let (run_config, tokenizer) = config_and_tokenizer(of, size, self)?;
        let kind = if bench == "train" { run_config.train.precision } else { run_config.eval.precision };
        let device = if self.device.starts_with("cuda") { &self.device } else { "cpu" };
        let (repeat, warm_up) = (self.repeat.to_string(), self.warm_up.to_string());
        let mut args = vec!["--device", device, "--dtype", kind.name(), "--repeat", &repeat, "--warm-up", &warm_up];
        args.extend(more);
        let case = case::describe(size, &run_config, tokenizer)?;
        self.torch.figures(bench, &args, &case).with_context(|| format!("{} {}", of.name(), size.title()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    /// The options of one case.
    fn only(of: Method, size: Size) -> Models {
        let words = ["bench", "--method", of.name(), "--size", size.name()];
        let matches = Models::augment_args(clap::Command::new("bench")).get_matches_from(words);
        Models::from_arg_matches(&matches).unwrap()
    }

    /// Every size of every method is a model that its crate accepts.
    #[test]
    fn sizes_make_valid_plans() {
        for of in [Method::Dit, Method::Evf, Method::Risam] {
            for size in [Size::Tiny, Size::B, Size::L, Size::H] {
                let args = only(of, size);
                let (run_config, tokenizer) = config_and_tokenizer(of, size, &args).unwrap();
                let made = models::methods::AnyMethod::new(&run_config, tokenizer).map(|_| ());
                assert!(made.is_ok(), "{of:?} {size:?}: {made:?}");
                assert!(super::super::flops::work(&run_config).unwrap().forward > 1e6);
            }
        }
    }

    /// What another program needs to build the same model and to ask it the same.
    #[test]
    fn cases_are_described() {
        for (of, length) in [(Method::Dit, 20), (Method::Evf, 512), (Method::Risam, 17)] {
            let args = only(of, Size::B);
            let case = args.described().unwrap();
            let row = |i: usize| case["ids"][i].as_array().unwrap().len();
            assert_eq!((row(0), row(3)), (length, length), "{of:?}");
            assert!(case["lengths"][1].as_u64() < case["lengths"][0].as_u64(), "{of:?}");
            assert_eq!(case["model"]["sam"]["image_encoder"]["embed_dim"], 768);
            assert_eq!(case["method"], of.name());
            assert!(case["optim"]["lr"].as_f64() == Some(1e-4) && case["ema"]["enabled"].is_boolean());
            let count = case["parameters"].as_u64().unwrap();
            assert!((80_000_000..1_000_000_000).contains(&count), "{of:?}: {count}");
        }
    }
}
