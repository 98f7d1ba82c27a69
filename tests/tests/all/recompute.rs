//! Blocks of encoders that are recomputed in the backward pass.

use burn::tensor::Device;
use models::methods::{DitMethod, EvfMethod, RisamMethod};
use nn_ops::recompute::record;
use nn_ops::weights::load_formula;
use run_config::{Method, Precision, Recompute, RunConfig};
use tests::{begin, parts, toy};
use trainer::batch::HostBatch;
use trainer::data::TrainData;
use trainer::segmenter::Segmenter;

use crate::precision::{backward, norm, worst};
use crate::training::ONE_AT_A_TIME;

/// In f32 the same terms are added in another order where a tensor is used at several places.
const SUMS: f64 = 1e-6;
/// In bf16 such a sum is rounded to 8 bits.
const HALVES: f64 = 0.02;

/// Loss and gradients of a batch are the same, and `pieces` are recomputed.
fn same<S: Segmenter>(run_config: &RunConfig, segmenter: &S, pieces: usize, what: &str) {
    let device = Device::flex();
    let names = segmenter.names();
    let (training, graph) = begin(segmenter, run_config);
    let (net, _) = load_formula(training.net, "blocks", &names);
    for (precision, tolerance) in [(Precision::F32, SUMS), (Precision::Bf16, HALVES)] {
        let found = [Recompute::None, Recompute::Blocks].map(|recompute| {
            let mut run_config = run_config.clone();
            (run_config.train.recompute, run_config.train.precision) = (recompute, precision);
            // Dropout draws the same numbers, if it draws as often.
            device.seed(5);
            backward(segmenter, &run_config, &net, &graph)
        });
        let [(want_loss, want), (loss, got)] = found;
        assert_eq!(loss, want_loss, "{what} in {precision:?}: the loss differs");
        assert!(got.keys().eq(want.keys()), "{what} in {precision:?}: other parameters get gradients");
        let whole = norm(want.values().flat_map(|(_, v)| v));
        assert!(whole > 0.0);
        for ((name, (_, got)), (_, want)) in got.iter().zip(want.values()) {
            let off = f64::from(worst(got, want));
            assert!(off <= tolerance * whole, "{what} in {precision:?}: {name} differs by {off} of {whole}");
        }
    }
    let batch = batch(run_config, segmenter);
    let (logits, tape) = record(|| segmenter.logits(&net, &batch, &graph).unwrap());
    assert_eq!(tape.pieces(), pieces, "{what}");
    drop((logits, tape));
}

fn batch<S: Segmenter>(run_config: &RunConfig, segmenter: &S) -> HostBatch {
    TrainData::open(run_config, parts(run_config).0, segmenter.inputs()).unwrap().batches(0, 1).next().unwrap().unwrap()
}

/// The toys have three blocks in their image encoders.
fn dit(set: &[&str], pieces: usize) {
    let folder = tempfile::tempdir().unwrap();
    let run_config = toy(Method::Dit, folder.path(), "blocks", &[&["data.prefetch=0"], set].concat());
    let segmenter = DitMethod::new(&run_config, parts(&run_config).1).unwrap();
    same(&run_config, &segmenter, pieces, &set.join(" "));
}

#[test]
fn dit_gets_the_same_gradients() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // The text where it goes into the blocks and past them, and the blocks; a cascade's slots also go on to the next ones.
    for (variant, pieces) in [
        ("default_sam", 3),
        ("layer_wise", 4),
        ("e2e", 4),
        ("e2e_token", 4),
        ("token_layer_wise", 4),
        ("cross_attention", 4),
        ("cross_attention_opp", 4),
        ("cross_attention_ffn", 4),
        ("cascade", 7),
    ] {
        let variant = format!("model.dit.variant={variant}");
        dit(&[&variant], pieces);
    }
    dit(&["model.dit.attention=windowed", "model.dit.variant=e2e", "model.dit.text_transform=true"], 5);
    // Three kinds of prompts go through the same blocks one after the other.
    dit(&["train.prompts=[\"text\", \"points\", \"box\"]", "train.batch_size=6"], 12);
}

/// Blocks pass gradients on to what is trained in front of them, and run plainly where there is nothing.
#[test]
fn frozen_blocks_pass_gradients_on() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let encoder = "model.freeze=[\"visual_encoder.blocks.*\", \"visual_encoder.patch_embed.*\", \"visual_encoder.pos_embed\", \"lang_encoder.*\"]";
    dit(&[encoder, "model.dit.variant=layer_wise"], 3);
    dit(&[encoder, "model.dit.variant=e2e", "model.dit.text_transform=true"], 4);
    dit(&[encoder, "model.dit.variant=default_sam"], 0);
}

#[test]
fn evf_and_risam_get_the_same_gradients() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let run_config =
        |method: Method, set: &[&str]| toy(method, folder.path(), method.name(), &[&["data.prefetch=0"], set].concat());
    // Two layers of BEiT-3, once or once a kind of input, and three blocks of SAM.
    for (encoder, pieces) in [("beit3_early", 2), ("beit3_late", 4), ("beit3_text", 2)] {
        for (train, more) in [("true", 3), ("false", 0)] {
            let (encoder, train) = (format!("model.evf.encoder={encoder}"), format!("model.evf.train_image_encoder={train}"));
            let run_config = run_config(Method::Evf, &[&encoder, &train]);
            same(
                &run_config,
                &EvfMethod::new(&run_config, parts(&run_config).1).unwrap(),
                pieces + more,
                &format!("{encoder} {train}"),
            );
        }
    }
    // Taps leave the image encoder after every block; the head's map and query are cut once.
    for (train, pieces) in [("true", 4), ("false", 1)] {
        let train = format!("model.risam.train_image_encoder={train}");
        let run_config = run_config(Method::Risam, &[&train, "model.risam.relevance_mask=false"]);
        same(&run_config, &RisamMethod::new(&run_config, parts(&run_config).1).unwrap(), pieces, &train);
    }
}
