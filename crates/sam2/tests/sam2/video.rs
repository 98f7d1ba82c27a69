//! Video: the state machine beside a run that keeps everything, gaps, sizes, directions, several objects.

use burn::tensor::{DType, Int, Tensor};
use coco_mask::Rle;
use sam_vit::{PromptSet, Prompts};
use sam2::{
    Answer, Direction, Frame, FrameMask, MemoryTokens, Sam2, Sam2Config, Sam2Error, Sam2Video, VideoPrompt, fill_holes, sine,
};

use crate::toy::{assert_close, config, distance, formula, sam2, test_image};

fn text(name: &str) -> VideoPrompt {
    VideoPrompt::Tokens { tokens: formula(name, [1, 1, 32]), padded: false }
}

fn frame(sam2: &Sam2, index: i64) -> Frame {
    sam2.frame(index, &test_image(index.unsigned_abs() as u32 + 7, 30, 40)).unwrap()
}

/// Follows one object from a text on the first of `numbers`.
fn follow(sam2: &Sam2, video: &mut Sam2Video, numbers: &[i64]) -> Vec<FrameMask> {
    let (first, rest) = numbers.split_first().unwrap();
    let mut masks = vec![video.prompt(sam2, 1, &frame(sam2, *first), &text("text")).unwrap()];
    masks.extend(rest.iter().map(|index| video.track(sam2, &frame(sam2, *index)).unwrap().remove(0)));
    masks
}

#[test]
fn one_frame() {
    let sam2 = sam2(&config());
    let mut video = Sam2Video::new();
    let mask = follow(&sam2, &mut video, &[0]).remove(0);
    assert_eq!((mask.object, mask.index, mask.size, mask.low_res.dims()), (1, 0, (30, 40), [1, 1, 16, 16]));
    assert!(mask.conditioned.is_none(), "a prompted frame looks at nothing");
    let prediction = mask.prediction().unwrap();
    assert_eq!((prediction.mask.height(), prediction.mask.width()), (30, 40));
    assert_eq!(video.bank(1).unwrap().kept(), (1, 1));
    // Nothing to follow without a prompt.
    assert!(Sam2Video::new().track(&sam2, &frame(&sam2, 0)).unwrap().is_empty());
}

#[test]
fn the_second_frame_looks_at_the_first() {
    let sam2 = sam2(&config());
    let masks = follow(&sam2, &mut Sam2Video::new(), &[0, 1]);
    let conditioned = masks[1].conditioned.clone().unwrap();
    assert!(distance(&conditioned, &frame(&sam2, 1).features.image) > 1e-2);
    // Another text on the first frame shows on the second.
    let mut other = Sam2Video::new();
    other.prompt(&sam2, 1, &frame(&sam2, 0), &text("other text")).unwrap();
    let second = other.track(&sam2, &frame(&sam2, 1)).unwrap().remove(0);
    assert!(distance(&second.decoded.low_res, &masks[1].decoded.low_res) > 1e-4);
}

/// Tokens of a memory with the position of an age.
fn tokens(sam2: &Sam2, mask: &FrameMask, row: usize) -> (Tensor<3>, Tensor<3>) {
    let flat = |map: Tensor<4>| map.reshape([1, 16, 16]).swap_dims(1, 2);
    let values = mask.memory.clone().cast(DType::BF16).cast(DType::F32);
    let row = sam2.maskmem_tpos_enc.val().reshape([3, 1, 16]).narrow(0, row, 1);
    (flat(values), flat(sine(16, [4, 4], &sam2.device(), DType::F32)) + row)
}

/// The answer on frame `t`, from all masks before it.
fn from_everything(sam2: &Sam2, frame: &Frame, before: &[FrameMask]) -> Tensor<4> {
    let t = before.len();
    let mut parts = vec![tokens(sam2, &before[0], 2)];
    parts.extend((t.saturating_sub(2).max(1)..t).map(|i| tokens(sam2, &before[i], t - i - 1)));
    let pointers: Vec<&FrameMask> = [&before[0]].into_iter().chain(before[t.saturating_sub(3).max(1)..].iter().rev()).collect();
    let count = 2 * pointers.len();
    for mask in pointers {
        parts.push((mask.pointer.clone().reshape([1, 2, 16]), Tensor::zeros([1, 2, 16], &sam2.device())));
    }
    let (values, positions): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let memory = MemoryTokens { values: Tensor::cat(values, 1), positions: Tensor::cat(positions, 1), pointers: count };
    let mut features = frame.features.clone();
    features.image = sam2.memory_attention.forward(features.image, &memory);
    let device = sam2.device();
    let points = Some((Tensor::zeros([1, 1, 2], &device), Tensor::<2, Int>::full([1, 1], -1, &device)));
    let decoded = sam2.decode(&features, &[], Prompts { points, ..Prompts::default() }).unwrap();
    fill_holes(sam2.heads(&decoded, Answer::BestOfThree).low_res, 8).unwrap()
}

#[test]
fn equals_a_run_that_keeps_everything() {
    let sam2 = sam2(&config());
    let numbers: Vec<i64> = (0..9).collect();
    let masks = follow(&sam2, &mut Sam2Video::new(), &numbers);
    for t in 1..masks.len() {
        let want = from_everything(&sam2, &frame(&sam2, t as i64), &masks[..t]);
        assert_close(&masks[t].low_res, &want, 1e-4, &format!("frame {t}"));
    }
}

/// Frame 5 looks two numbers back at most, so after a gap only the prompted frame and the pointers within three are left.
#[test]
fn a_gap_in_the_numbering() {
    let sam2 = sam2(&config());
    let mut video = Sam2Video::new();
    let masks = follow(&sam2, &mut video, &[0, 1, 2, 5]);
    let memory = {
        let (values, positions) = tokens(&sam2, &masks[0], 2);
        let pointers = [&masks[0], &masks[2]].map(|m| m.pointer.clone().reshape([1, 2, 16]));
        let values = Tensor::cat([vec![values], pointers.to_vec()].concat(), 1);
        let positions = Tensor::cat(vec![positions, Tensor::zeros([1, 4, 16], &sam2.device())], 1);
        MemoryTokens { values, positions, pointers: 4 }
    };
    let want = sam2.memory_attention.forward(frame(&sam2, 5).features.image, &memory);
    assert_close(&masks[3].conditioned.clone().unwrap(), &want, 1e-4, "conditioned features");
    assert_eq!(video.bank(1).unwrap().kept(), (2, 3));
}

#[test]
fn frames_of_another_size_are_refused() {
    let sam2 = sam2(&config());
    let mut video = Sam2Video::new();
    let first = follow(&sam2, &mut video, &[0, 1]);
    let small = sam2.frame(2, &test_image(9, 20, 40)).unwrap();
    let error = video.track(&sam2, &small).unwrap_err();
    assert!(matches!(error, Sam2Error::FrameSize { index: 2, .. }), "{error}");
    assert!(video.prompt(&sam2, 2, &small, &text("text")).is_err());
    // The video goes on as if nothing had happened.
    assert_eq!(video.objects().collect::<Vec<_>>(), [1]);
    let third = video.track(&sam2, &frame(&sam2, 2)).unwrap().remove(0);
    let want = follow(&sam2, &mut Sam2Video::new(), &[0, 1, 2]).remove(2);
    assert_close(&third.low_res, &want.low_res, 0.0, "third frame");
    assert!(first[0].conditioned.is_none());
}

#[test]
fn memory_does_not_grow() {
    let sam2 = sam2(&config());
    let mut video = Sam2Video::new();
    let shared = frame(&sam2, 0);
    video.prompt(&sam2, 1, &shared, &text("text")).unwrap();
    let kept: Vec<(usize, usize)> = (1..12)
        .map(|index| {
            video.track(&sam2, &Frame { index, ..shared.clone() }).unwrap();
            video.bank(1).unwrap().kept()
        })
        .collect();
    assert_eq!(kept[..3], [(2, 2), (3, 3), (4, 4)]);
    assert!(kept[4..].iter().all(|k| *k == (4, 5)), "{kept:?}");
}

/// A film that runs backwards through falling numbers is one that runs forwards.
#[test]
fn backwards() {
    let sam2 = sam2(&config());
    let want = follow(&sam2, &mut Sam2Video::new(), &[0, 1, 2, 3]);
    let mut video = Sam2Video::new();
    video.direction = Direction::Backward;
    // The images depend on the distance from 0.
    let got = follow(&sam2, &mut video, &[0, -1, -2, -3]);
    for (got, want) in got.iter().zip(&want) {
        assert_close(&got.low_res, &want.low_res, 0.0, "backwards");
    }
}

/// Each of several objects is what it would be alone; one that is prompted later comes in there.
#[test]
fn several_objects() {
    let sam2 = sam2(&config());
    let mut video = Sam2Video::new();
    let frames: Vec<Frame> = (0..4).map(|i| frame(&sam2, i)).collect();
    video.prompt(&sam2, 1, &frames[0], &text("text")).unwrap();
    assert_eq!(video.track(&sam2, &frames[1]).unwrap().len(), 1);
    let click = VideoPrompt::Set(PromptSet::click(10.0, 20.0));
    let prompted = video.prompt(&sam2, 7, &frames[2], &click).unwrap();
    let third = video.track(&sam2, &frames[2]).unwrap();
    assert_eq!(third.iter().map(|m| m.object).collect::<Vec<_>>(), [1, 7]);
    assert_close(&third[1].low_res, &prompted.low_res, 0.0, "a prompted frame is repeated");
    let fourth = video.track(&sam2, &frames[3]).unwrap();
    let alone = follow(&sam2, &mut Sam2Video::new(), &[0, 1, 2, 3]);
    assert_close(&fourth[0].low_res, &alone[3].low_res, 0.0, "first object");
    let mut second = Sam2Video::new();
    second.prompt(&sam2, 7, &frames[2], &click).unwrap();
    assert_close(&fourth[1].low_res, &second.track(&sam2, &frames[3]).unwrap()[0].low_res, 0.0, "second object");
    assert!(video.forget(1) && !video.forget(1));
    assert_eq!(video.track(&sam2, &frames[3]).unwrap().len(), 1);
}

/// A second prompted frame of one object is looked at for good.
#[test]
fn prompts_on_any_frame_are_kept() {
    let sam2 = sam2(&config());
    let mut video = Sam2Video::new();
    follow(&sam2, &mut video, &[0, 1]);
    let boxed = VideoPrompt::Set(PromptSet::boxed([3.0, 3.0, 20.0, 20.0]));
    video.prompt(&sam2, 1, &frame(&sam2, 1), &boxed).unwrap();
    for index in 2..12 {
        video.track(&sam2, &frame(&sam2, index)).unwrap();
    }
    assert_eq!(video.bank(1).unwrap().kept(), (5, 6));
}

/// A given mask is its own answer, at the image's size; one of nothing is an absent object.
#[test]
fn a_mask_as_prompt() {
    let sam2 = sam2(&config());
    let bytes: Vec<u8> = (0..30 * 40).map(|i| u8::from((5..25).contains(&(i / 40)) && (10..30).contains(&(i % 40)))).collect();
    let mask = Rle::from_row_major(30, 40, &bytes).unwrap();
    let mut video = Sam2Video::new();
    let got = video.prompt(&sam2, 3, &frame(&sam2, 0), &VideoPrompt::Mask(mask.clone())).unwrap();
    assert!(got.is_present());
    let answer = got.prediction().unwrap().mask.to_row_major();
    let both = answer.iter().zip(&bytes).filter(|(a, b)| **a == 1 && **b == 1).count();
    let either = answer.iter().zip(&bytes).filter(|(a, b)| **a == 1 || **b == 1).count();
    assert!(both * 10 > either * 8, "{both} of {either}");
    assert_eq!(video.track(&sam2, &frame(&sam2, 1)).unwrap().len(), 1);
    let empty = VideoPrompt::Mask(Rle::empty(30, 40).unwrap());
    let absent = video.prompt(&sam2, 4, &frame(&sam2, 1), &empty).unwrap();
    assert!(!absent.is_present() && absent.prediction().unwrap().mask.is_empty());
    assert_close(&absent.pointer, &sam2.no_obj_ptr.val(), 0.0, "pointer");
    let wrong = VideoPrompt::Mask(Rle::empty(40, 30).unwrap());
    let error = video.prompt(&sam2, 5, &frame(&sam2, 1), &wrong).unwrap_err().to_string();
    assert!(error.contains("object 5 on frame 1: the mask is 40 x 30"), "{error}");
}

/// Text of the first generation comes behind two padding points.
#[test]
fn padded_tokens_are_another_prompt() {
    let sam2 = sam2(&config());
    let answer = |padded| {
        let prompt = VideoPrompt::Tokens { tokens: formula("text", [1, 1, 32]), padded };
        Sam2Video::new().prompt(&sam2, 1, &frame(&sam2, 0), &prompt).unwrap().decoded.low_res
    };
    assert!(distance(&answer(true), &answer(false)) > 1e-4);
}

#[test]
fn prompts_that_make_no_sense() {
    let sam2 = sam2(&config());
    let mut video = Sam2Video::new();
    let shared = frame(&sam2, 0);
    let wrong = [
        VideoPrompt::Set(PromptSet::default()),
        VideoPrompt::Set(PromptSet::click(f64::NAN, 1.0)),
        VideoPrompt::Tokens { tokens: formula("two", [2, 1, 32]), padded: false },
        VideoPrompt::Tokens { tokens: formula("narrow", [1, 1, 16]), padded: true },
    ];
    for prompt in wrong {
        assert!(video.prompt(&sam2, 1, &shared, &prompt).is_err(), "{prompt:?}");
    }
    assert_eq!(video.objects().count(), 0);
}

/// The two parts that 2.1 adds: ages of pointers, and the memory of an absent object.
#[test]
fn version_2_1() {
    let sam2 = sam2(&Sam2Config { version_2_1: true, ..config() });
    let mut video = Sam2Video::new();
    follow(&sam2, &mut video, &[0, 1]);
    let memory = video.bank(1).unwrap().read(&sam2, 2, Direction::Forward).unwrap();
    let [_, length, _] = memory.positions.dims();
    let of = |from: usize| memory.positions.clone().narrow(1, length - 4 + from, 2);
    // The parts of a pointer share a position; pointers of different age do not.
    assert_close(&of(0).narrow(1, 0, 1), &of(0).narrow(1, 1, 1), 0.0, "parts");
    assert!(distance(&of(0), &of(2)) > 1e-3);
    let shared = frame(&sam2, 0);
    let absent = video.prompt(&sam2, 2, &shared, &VideoPrompt::Mask(Rle::empty(30, 40).unwrap())).unwrap();
    let plain = sam2.memorise(shared.features.image, absent.low_res, true);
    let embed = sam2.no_obj_embed_spatial.as_ref().unwrap().val().reshape([1, 16, 1, 1]);
    assert_close(&absent.memory, &(plain + embed), 1e-6, "memory");
}
