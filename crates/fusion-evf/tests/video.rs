//! Sentences through a video: memories of their own, gaps, sizes, and a film gone on with in another process.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use burn::tensor::Device;
use common::{Letters, difference, efficient, model, on_sam2};
use fusion_evf::{EvfPredictor, EvfVideo, Generation};
use nn_ops::weights::StateDict;
use pil_ops::Image;
use sam2::FrameMask;

fn predictor(generation: Generation) -> EvfPredictor {
    EvfPredictor::new(&model(&on_sam2(generation), &Device::flex()), Arc::new(Letters)).unwrap()
}

fn frame(number: usize) -> Image {
    let bytes = (0..40 * 50 * 3).map(|i| ((i * 31 + number * 17 * (i / 900)) % 251) as u8).collect();
    Image::new(50, 40, 3, bytes).unwrap()
}

fn run(evf: &EvfPredictor, video: &mut EvfVideo, frames: impl IntoIterator<Item = usize>) -> Vec<Vec<FrameMask>> {
    frames.into_iter().map(|t| video.frame(evf, t as i64, &frame(t)).unwrap()).collect()
}

fn unlike(a: &[Vec<FrameMask>], b: &[Vec<FrameMask>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| difference(a.low_res.clone(), b.low_res.clone())).fold(0.0, f32::max)
}

#[test]
fn sentences_have_memories_of_their_own() {
    let evf = predictor(Generation::Second);
    let both = run(&evf, &mut EvfVideo::new(["ab", "cde"]), 0..4);
    assert!(both.iter().all(|masks| masks.len() == 2 && masks[0].object == 0 && masks[1].object == 1));
    for (at, sentence) in ["ab", "cde"].into_iter().enumerate() {
        let alone = run(&evf, &mut EvfVideo::new([sentence]), 0..4);
        let of_both: Vec<_> = both.iter().map(|masks| vec![masks[at].clone()]).collect();
        assert!(unlike(&alone, &of_both) < 1e-4, "{sentence}");
    }
    let mask = both[3][1].prediction().unwrap().mask;
    assert_eq!((mask.height(), mask.width()), (40, 50));
}

#[test]
fn the_first_frame_is_prompted_as_the_generation_does() {
    let [first, second] =
        [Generation::First, Generation::Second].map(|generation| run(&predictor(generation), &mut EvfVideo::new(["abc"]), 0..1));
    assert!(unlike(&first, &second) > 1e-4);
}

#[test]
fn a_film_gone_on_with_later_is_the_unbroken_one() {
    let evf = predictor(Generation::Second);
    let sentences = ["ab", "cde"];
    let whole = run(&evf, &mut EvfVideo::new(sentences), 0..24);
    let folder = tempfile::tempdir().unwrap();
    for at in [1, 2, 9, 20] {
        let mut video = EvfVideo::new(sentences);
        run(&evf, &mut video, 0..at);
        let path = folder.path().join("state.safetensors");
        video.state().unwrap().save(&path, &[]).unwrap();
        let mut later = EvfVideo::resume(&evf, sentences, &StateDict::open(&path).unwrap()).unwrap();
        assert_eq!(unlike(&run(&evf, &mut later, at..24), &whole[at..]), 0.0, "stopped before frame {at}");
    }
    let state = StateDict::open(folder.path().join("state.safetensors")).unwrap();
    assert!(EvfVideo::resume(&evf, ["ab"], &state).unwrap_err().to_string().contains("one per sentence"));
    let empty = StateDict::empty("nothing");
    assert!(EvfVideo::resume(&evf, ["ab"], &empty).unwrap_err().to_string().contains("not the state of a video"));
}

#[test]
fn gaps_are_followed_and_other_sizes_refused() {
    let evf = predictor(Generation::Second);
    let mut video = EvfVideo::new(["ab"]);
    let gap = run(&evf, &mut video, [0, 1, 5, 6]);
    assert_eq!(gap.iter().map(|masks| masks[0].index).collect::<Vec<_>>(), [0, 1, 5, 6]);
    let close = run(&evf, &mut EvfVideo::new(["ab"]), [0, 1, 2, 3]);
    assert_eq!(unlike(&gap[..2], &close[..2]), 0.0);
    let other = Image::new(40, 50, 3, vec![7; 6000]).unwrap();
    assert!(video.frame(&evf, 7, &other).unwrap_err().to_string().contains("all frames of a video must have one size"));
}

#[test]
fn models_without_memory_and_sentences_without_words_are_refused() {
    let on_efficient = EvfPredictor::new(&model(&efficient(), &Device::flex()), Arc::new(Letters)).unwrap();
    let error = EvfVideo::new(["ab"]).frame(&on_efficient, 0, &frame(0)).unwrap_err().to_string();
    assert!(error.contains("`visual` is \"efficient_sam\": must be \"sam2\" for video"), "{error}");
    let evf = predictor(Generation::Second);
    let mut video = EvfVideo::new(["ab", ""]);
    assert!(video.frame(&evf, 0, &frame(0)).is_err());
    // Nothing was prompted: the frame can be tried again.
    assert!(video.state().unwrap().names().all(|name| name == "video"));
}
