//! Every row of the papers' tables as a file: it reads, builds at toy size, takes two steps, and moves what the paper says.

mod dit;
mod evf;
mod risam;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use burn::tensor::Device;
use models::ModelError;
use models::tokenizer::RunTokenizer;
use nn_ops::weights::{StateDict, export};
use refcoco_data::{Dataset, SynthConfig, SynthFormat, generate};
use run_config::{Init, Precision, RunConfig};
use tests::begin;
use trainer::data::{TrainData, open_tokenizer, open_train};
use trainer::event::Event;
use trainer::segmenter::Segmenter;
use trainer::shards::Shards;
use trainer::state::Training;
use trainer::train::train;

use crate::training::ONE_AT_A_TIME;

/// Lengths and sizes that change; what is a row's own stays. `{}` is the method's table.
const SMALL: &[&str] = &[
    "data.image_size=32",
    "data.prefetch=0",
    "data.dataset=refcoco",
    "data.split_by=unc",
    "data.rate=1",
    "data.also=[]",
    "data.val_splits=[\"val\"]",
    "text.max_tokens=12",
    // A vocabulary of the toy set's own serves any encoder.
    "text.tokenizer=wordpiece",
    "text.vocabulary=train-from-data",
    "text.added_tokens=[]",
    "optim.lr=1e-2",
    "optim.accumulate=1",
    "schedule.kind=constant",
    "schedule.warmup_steps=0",
    "schedule.decay_epochs=[]",
    "train.steps=2",
    "eval.limit=2",
    "eval.figures=0",
    "{}.sam.decoder_heads=2",
    "{}.sam.decoder_mlp_dim=16",
    "{}.sam.image_encoder.image_size=32",
    "{}.sam.image_encoder.patch_size=8",
    "{}.sam.image_encoder.embed_dim=16",
    "{}.sam.image_encoder.depth=3",
    "{}.sam.image_encoder.heads=2",
    "{}.sam.image_encoder.mlp_ratio=2.0",
    "{}.sam.image_encoder.out_channels=16",
    "{}.sam.image_encoder.window_size=3",
    "{}.sam.image_encoder.global_blocks=[1]",
];

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// A folder with a generated set.
struct Toy {
    folder: tempfile::TempDir,
}

impl Toy {
    /// The config of a row as it stands.
    fn whole(&self, row: &str) -> Result<RunConfig, String> {
        RunConfig::from_path(&configs().join(row).with_extension("toml")).map_err(|e| e.to_string())
    }

    /// Takes two steps of a row at toy size.
    fn step<S: Segmenter>(
        &self,
        row: &str,
        own: &[&str],
        build: impl Fn(&RunConfig, RunTokenizer) -> Result<S, ModelError>,
    ) -> Result<Stepped, String> {
        let table = format!("model.{}", row.split('/').next().unwrap());
        let mut set: Vec<String> = SMALL.iter().chain(own).map(|s| s.replace("{}", &table)).collect();
        set.push(format!("data.root={}", self.folder.path().join("data").display()));
        set.push(format!("run.dir={}", self.folder.path().join("runs").display()));
        let mut run_config = RunConfig::load(&configs().join(row).with_extension("toml"), &set).map_err(|e| e.to_string())?;
        // No weight file is at hand.
        run_config.model.init = Init::default();
        let data = Arc::new(open_train(&run_config).unwrap());
        let words = open_tokenizer(&run_config, &data, None).unwrap();
        let segmenter = build(&run_config, words).map_err(|e| e.to_string())?;
        let device = Device::flex();
        let names = segmenter.names();
        let net = |training: Training<S::Net>| export(&training.net, &names, "net");
        let before = net(begin(&segmenter, &run_config).0);
        let summary =
            train(&segmenter, &run_config, data.clone(), &device, false, &mut |_: Event<'_>| {}).map_err(|e| e.to_string())?;
        half(&segmenter, &run_config, data, &begin(&segmenter, &run_config).0.net)?;
        let saved = models::run_dir::Checkpoint::open(&summary.dir.checkpoint_path(2)).unwrap();
        let after = net(begin(&segmenter, &run_config).0.restore(&saved).unwrap());
        Ok(Stepped { before, after })
    }
}

/// Takes the loss and the gradients of a batch in f32 and in bf16: no operation may meet two precisions.
fn half<S: Segmenter>(segmenter: &S, run_config: &RunConfig, data: Arc<Dataset>, net: &S::Net) -> Result<(), String> {
    let graph = Device::flex().autodiff();
    let batches = TrainData::open(run_config, data, segmenter.inputs()).map_err(|e| e.to_string())?;
    let batch = batches.batches(0, 1).next().ok_or("no batch")?.map_err(|e| e.to_string())?;
    let loss = |precision: Precision| {
        let mut run_config = run_config.clone();
        run_config.train.precision = precision;
        let shards = Shards::new(&run_config, segmenter).map_err(|e| e.to_string())?;
        graph.seed(1);
        let mut found = shards.gradients(segmenter, net, &batch, &graph, 1.0).map_err(|e| e.to_string())?;
        Ok::<f64, String>(found.remove(0).loss)
    };
    let (single, half) = (loss(Precision::F32)?, loss(Precision::Bf16)?);
    // Dropout draws differently in the two.
    if half.is_finite() && (half - single).abs() < 0.2 * single.abs() {
        return Ok(());
    }
    Err(format!("the loss in bf16 is {half}, in f32 {single}"))
}

/// Parameters before and after two steps.
struct Stepped {
    before: StateDict,
    after: StateDict,
}

impl Stepped {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.before.names()
    }

    /// The parameters that do something else than `moves` says; it may leave some open.
    fn wrong(&self, moves: impl Fn(&str) -> Option<bool>) -> Vec<String> {
        let moved = |name: &str| self.before.read(name).unwrap() != self.after.read(name).unwrap();
        let odd = |name: &&str| moves(name).is_some_and(|moves| moves != moved(name));
        self.names().filter(odd).map(|name| format!("{name} {}", if moved(name) { "moved" } else { "did not move" })).collect()
    }
}

/// The configs of a method: `METHOD/base` and `METHOD/TABLE/ROW`, each with its file.
fn files(method: &str) -> Vec<(String, PathBuf)> {
    let list = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let (folders, own): (Vec<_>, Vec<_>) = list(&configs().join(method)).into_iter().partition(|p| p.is_dir());
    let all = own.into_iter().chain(folders.iter().flat_map(|folder| list(folder)));
    let row = |path: &Path| path.with_extension("").strip_prefix(configs()).unwrap().to_string_lossy().replace('\\', "/");
    all.map(|path| (row(&path), path)).collect()
}

/// Checks every row of a method, and that each of its configs is one.
fn rows_hold<'a>(method: &str, rows: impl Iterator<Item = &'a str>, check: impl Fn(&Toy, usize) -> Result<(), String>) {
    let stated: Vec<&str> = rows.collect();
    let mut found = BTreeSet::new();
    for (row, path) in files(method) {
        let run_config = RunConfig::from_path(&path).unwrap();
        assert_eq!(run_config.run.name, row.replace('/', "-"), "{}", path.display());
        // What lies beside the base, not in a table's folder, is no row.
        if row.matches('/').count() > 1 {
            found.insert(row);
        }
    }
    assert_eq!(found, stated.iter().map(|s| (*s).to_owned()).collect());

    let toy = Toy { folder: tempfile::tempdir().unwrap() };
    let format = SynthFormat::Multitask;
    let config = SynthConfig { images: 24, size: 48, seed: 3, format, ..SynthConfig::default() };
    generate(&config, &toy.folder.path().join("data")).unwrap();
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let wrong: Vec<String> =
        stated.iter().enumerate().filter_map(|(i, row)| Some(format!("{row}: {}", check(&toy, i).err()?))).collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), stated.len(), wrong.join("\n"));
}

/// A constant added to all keys changes no softmax: the gradient of their bias is nothing but rounding.
fn key_bias(name: &str) -> bool {
    [".k_proj.bias", ".key.bias", ".linear_k.bias", ".k.bias"].iter().any(|end| name.ends_with(end))
        || name.contains(".k_proj.") && name.ends_with(".bias")
}

/// Whether SAM's decoder uses the parameter for one mask; the predicted IoU and the other masks have no part in the loss.
fn decodes(name: &str) -> bool {
    let part = name.split("mask_decoder.").nth(1).unwrap_or_default();
    part.starts_with("output_hypernetworks_mlps.0.")
        || !part.starts_with("output_hypernetworks_mlps.") && !part.starts_with("iou_prediction_head.")
}
