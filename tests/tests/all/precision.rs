//! bf16 on f32 parameters, and operations that are recomputed in the backward pass.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::store::{BurnpackStore, ModuleStore};
use burn::tensor::{DType, Device, Tensor};
use models::methods::{DitMethod, EvfMethod, RisamMethod};
use models::precision::seen;
use nn_ops::weights::{KeyMap, NamedVisitor, load_formula, visit_named};
use pil_ops::Image;
use run_config::{Method, Precision, RunConfig};
use tests::{begin, found, parts, toy};
use trainer::batch::HostBatch;
use trainer::data::TrainData;
use trainer::segmenter::Segmenter;
use trainer::shards::Shards;

use crate::training::run;

/// bf16 keeps 8 bits: 0.4 % a rounding, some ten roundings one after the other, of the largest logit.
const TOLERANCE: f32 = 0.03;
/// Of the gradients' norm: twice the roundings, and differences of nearly equal terms.
const OF_GRADIENTS: f64 = 0.12;

/// Dropout would differ between precisions, which draw differently.
const DRY: [&str; 3] = ["data.augment.flip=0", "data.prefetch=0", "schedule.warmup_steps=0"];

pub fn dry_config(method: Method, folder: &std::path::Path, set: &[&str]) -> RunConfig {
    let dry: &[&str] = if method == Method::Dit { &["model.dit.dropout=0", "model.dit.bert.dropout=0"] } else { &[] };
    toy(method, folder, method.name(), &[&DRY, dry, set].concat())
}

fn first_batch<S: Segmenter>(run_config: &RunConfig, segmenter: &S) -> HostBatch {
    let (data, _) = parts(run_config);
    TrainData::open(run_config, data, segmenter.inputs()).unwrap().batches(0, 1).next().unwrap().unwrap()
}

/// Every float tensor of a module, or its gradient, by official name.
fn gather<M: Module>(net: &M, names: &KeyMap, grads: Option<&GradientsParams>) -> BTreeMap<String, (DType, Vec<f32>)> {
    struct Gather<'a>(Option<&'a GradientsParams>, BTreeMap<String, (DType, Vec<f32>)>);
    impl NamedVisitor for Gather<'_> {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            let value = match self.0 {
                Some(grads) => grads.get::<D>(param.id),
                None => Some(param.val()),
            };
            if let Some(value) = value {
                self.1.insert(name.to_owned(), (value.dtype(), value.into_data().iter::<f32>().collect()));
            }
        }
    }
    let mut gather = Gather(grads, BTreeMap::new());
    visit_named(net, names, &mut gather);
    gather.1
}

pub fn worst(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Loss and gradients of the first batch.
pub fn backward<S: Segmenter>(
    segmenter: &S,
    run_config: &RunConfig,
    net: &S::Net,
    graph: &Device,
) -> (f64, BTreeMap<String, (DType, Vec<f32>)>) {
    let batch = first_batch(run_config, segmenter);
    let shards = Shards::new(run_config, segmenter).unwrap();
    let mut found = shards.gradients(segmenter, net, &batch, graph, 1.0).unwrap();
    let part = found.remove(0);
    (part.loss, gather(net, &segmenter.names(), Some(&part.grads)))
}

pub fn norm<'a>(of: impl Iterator<Item = &'a f32>) -> f64 {
    of.map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

fn halves<S: Segmenter>(run_config: &RunConfig, segmenter: &S) {
    let device = Device::flex();
    let names = segmenter.names();
    let (training, graph) = begin(segmenter, run_config);
    // Fresh weights make logits of next to nothing.
    let (net, _) = load_formula(training.net, "halves", &names);

    // Outside of training.
    let batch = first_batch(run_config, segmenter);
    let single = net.valid();
    let half = seen(&single, Precision::Bf16);
    let logits = |net: &S::Net| segmenter.logits(net, &batch, &device).unwrap();
    let (want, got) = (logits(&single), logits(&half));
    assert_eq!(got.dtype(), DType::F32, "masks leave in f32");
    let [want, got] = [want, got].map(|x| x.into_data().iter::<f32>().collect::<Vec<_>>());
    let scale = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let off = worst(&got, &want) / scale;
    assert!(off > 0.0 && off < TOLERANCE, "logits differ by {off} of {scale}");

    // Norms and frequencies keep f32, everything else does not.
    let single_kinds = ["norm", "ln", "LayerNorm", "bn", "gaussian", "running"];
    for (name, (kind, _)) in gather(&half, &names, None) {
        let keeps = single_kinds.iter().any(|part| name.contains(part)) || name.contains("neck.1.") || name.contains("neck.3.");
        let upscaling = ["mask_downscaling.1.", "mask_downscaling.4.", "output_upscaling.1."].iter().any(|n| name.contains(n));
        assert_eq!(kind, if keeps || upscaling { DType::F32 } else { DType::BF16 }, "{name}");
    }

    // In training.
    let mut low = run_config.clone();
    low.train.precision = Precision::Bf16;
    let (want_loss, want) = backward(segmenter, run_config, &net, &graph);
    let (loss, got) = backward(segmenter, &low, &net, &graph);
    assert!((loss - want_loss).abs() < f64::from(TOLERANCE) * want_loss, "loss {loss} against {want_loss}");
    assert!(got.keys().eq(want.keys()), "the same parameters get gradients");
    assert!(got.values().all(|(kind, _)| *kind == DType::F32), "gradients arrive in f32");
    let whole = norm(want.values().flat_map(|(_, v)| v));
    let difference: Vec<f32> =
        got.values().zip(want.values()).flat_map(|(a, b)| a.1.iter().zip(&b.1).map(|(a, b)| a - b)).collect();
    let off = norm(difference.iter()) / whole;
    assert!(off > 0.0 && off < OF_GRADIENTS, "gradients differ by {off} of their norm");
    assert!(gather(&net, &names, None).values().all(|(kind, _)| *kind == DType::F32), "the parameters stay in f32");
}

/// Sizes at which no value hangs on two channels alone, as in the smallest toys, where roundings do not average out.
const WIDE: [&str; 3] =
    ["{}.sam.image_encoder.embed_dim=64", "{}.sam.image_encoder.out_channels=64", "{}.sam.decoder_mlp_dim=64"];

#[test]
fn bf16_is_close_and_ends_at_f32_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let _alone = crate::training::ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let run_config = |method: Method, own: &[&str]| {
        let table = format!("model.{}", method.name());
        let set: Vec<String> = WIDE.iter().chain(own).map(|s| s.replace("{}", &table)).collect();
        dry_config(method, folder.path(), &set.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let dit = run_config(Method::Dit, &["{}.text_dim=64", "{}.bert.hidden=64"]);
    halves(&dit, &DitMethod::new(&dit, parts(&dit).1).unwrap());
    let evf = run_config(Method::Evf, &["{}.train_image_encoder=true", "{}.beit3.dim=64"]);
    halves(&evf, &EvfMethod::new(&evf, parts(&evf).1).unwrap());
    // A region's words are chosen by a threshold, which rounding may cross.
    let risam =
        run_config(Method::Risam, &["{}.relevance_mask=false", "{}.width=64", "{}.up_channels=[32, 16]", "{}.clip.width=64"]);
    halves(&risam, &RisamMethod::new(&risam, parts(&risam).1).unwrap());
}

/// Two steps, an evaluation and what lies on the disk afterwards.
#[test]
fn a_run_in_bf16_leaves_f32_behind() {
    let folder = tempfile::tempdir().unwrap();
    for method in [Method::Dit, Method::Evf, Method::Risam] {
        let set = ["train.steps=2", "train.precision=bf16", "eval.precision=bf16", "schedule.kind=constant", "eval.limit=2"];
        let run_config = dry_config(method, folder.path(), &set);
        let summary = run(&run_config, false);
        assert_eq!(summary.step, 2);
        let log = std::fs::read_to_string(summary.dir.log()).unwrap();
        assert!(log.contains("\"step\":2") && !log.contains("null"), "{log}");
        let kinds = |file: &str| {
            let mut store = BurnpackStore::from_file(summary.dir.checkpoint_path(2).join(file));
            let all = store.get_all_tensors().unwrap();
            all.iter().map(|(name, tensor)| (name.clone(), tensor.dtype)).collect::<Vec<_>>()
        };
        for file in ["model.bpk", "average.bpk", "optimiser-0.bpk"] {
            let found = kinds(file);
            assert!(found.len() > 20, "{file}");
            for (name, kind) in found {
                assert!(kind == DType::F32 || !kind.is_float(), "{method:?} {file} {name} is {kind:?}");
            }
        }
        let checkpoint = models::run_dir::Checkpoint::open(&summary.dir.checkpoint_path(2)).unwrap();
        let device = Device::flex();
        let found = |run_config: &RunConfig| found(run_config, Some(checkpoint.clone()));
        // Prediction and its maps of attention run in bf16, too.
        let image = Image::new(40, 30, 3, (0..3600u32).map(|i| (i * 7 % 256) as u8).collect()).unwrap();
        let model = found(&run_config).model(&device).unwrap();
        assert_eq!(model.predict(&image, &["the red circle", "left"]).unwrap().len(), 2);
        let maps = model.attention(&image, "the red circle").unwrap().maps;
        assert!(!maps.is_empty() && maps.iter().all(|map| map.values.iter().all(|v| v.is_finite())));
        // What is exported afterwards is the f32 weights, whatever evaluation computes in.
        let weights = |precision: &str| {
            let run_config = run_config.with_overrides(&[format!("eval.precision={precision}")]).unwrap();
            let weights = found(&run_config).state_dict(&device).unwrap();
            weights.names().map(|name| (name.to_owned(), weights.read(name).unwrap())).collect::<Vec<_>>()
        };
        assert!(weights("bf16") == weights("f32"), "{method:?}: exported weights differ");
    }
}

/// Two steps each: the second starts from parameters that the optimiser has put back.
#[test]
fn recomputing_operations_changes_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (method, more) in
        [(Method::Dit, "train.shards=2"), (Method::Evf, "model.evf.train_image_encoder=true"), (Method::Risam, "")]
    {
        let with = |name: &str, recompute: &str, precision: &str| {
            let set = [
                "train.steps=2".to_owned(),
                format!("train.recompute={recompute}"),
                format!("train.precision={precision}"),
                "schedule.kind=constant".into(),
                "eval.limit=2".into(),
                more.into(),
            ];
            let set: Vec<&str> = set.iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
            let run_config =
                dry_config(method, folder.path(), &set).with_overrides(&[format!("run.name={name}-{precision}")]).unwrap();
            let summary = run(&run_config, false);
            crate::training::tensors(&summary.dir.checkpoint_path(2).join("model.bpk"))
        };
        for precision in ["f32", "bf16"] {
            let name = method.name();
            let (kept, again) = (with(name, "none", precision), with(&format!("{name}-again"), "operations", precision));
            assert!(kept == again, "{method:?} in {precision}: weights differ");
        }
    }
}

/// Predictions of every method with half weights: nearly those of single ones, and training with them is refused.
#[test]
fn half_weights_predict_and_judge_and_do_not_train() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let image = Image::new(40, 30, 3, (0..3600u32).map(|i| (i * 7 % 256) as u8).collect()).unwrap();
    for method in [Method::Dit, Method::Evf, Method::Risam] {
        let run_config = dry_config(method, folder.path(), &["train.steps=2", "schedule.kind=constant", "eval.limit=4"]);
        let summary = run(&run_config, false);
        let checkpoint = models::run_dir::Checkpoint::open(&summary.dir.checkpoint_path(2)).unwrap();
        let half = run_config.with_overrides(&["eval.half_weights=true"]).unwrap();
        let scores = |run_config: &RunConfig| {
            let found = found(run_config, Some(checkpoint.clone()));
            let predictions = found.model(&device).unwrap().predict(&image, &["the red circle", "left"]).unwrap();
            let data = trainer::data::EvalData::open(run_config, "val", {
                let evaluator = trainer::methods::evaluator(&found, &device).unwrap();
                evaluator.inputs()
            });
            let evaluator = trainer::methods::evaluator(&found, &device).unwrap();
            let profile = trainer::evaluate::profile(run_config).unwrap();
            let (_, results) = evaluator.evaluate(&data.unwrap(), &profile, None, &mut |_| ()).unwrap();
            predictions.iter().map(|p| p.score).chain(results.iter().map(|r| r.score)).collect::<Vec<f32>>()
        };
        let (single, rounded) = (scores(&run_config), scores(&half));
        let off = worst(&single, &rounded);
        assert!(single != rounded && off < 0.02, "{method:?}: scores differ by {off}");
        let folder = half.with_overrides(&["run.name=refused"]).unwrap();
        let (data, tokenizer) = parts(&folder);
        let refused = trainer::methods::train(&folder, tokenizer, data, &device, false, &mut |_| ()).unwrap_err().to_string();
        assert!(refused.contains("eval.half_weights"), "{refused}");
    }
}
