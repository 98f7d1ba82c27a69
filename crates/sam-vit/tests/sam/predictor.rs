//! Embeddings, prompts and masks.

use burn::tensor::{Device, Int, Tensor};
use sam_vit::{ImageEmbedding, MaskPrediction, Output, PromptSet, Prompts, Sam, SamError};

use crate::toy::{assert_close, config, formula, sam, test_image, values};

fn setup() -> (Sam, ImageEmbedding) {
    let sam = sam(&config(), &Device::flex());
    let embedding = sam.embed(&test_image(48, 80)).unwrap();
    (sam, embedding)
}

fn assert_same(got: &[MaskPrediction], want: &[MaskPrediction], stage: &str) {
    assert_eq!(got.len(), want.len(), "{stage}");
    for (g, w) in got.iter().zip(want) {
        assert_close(g.low_res.clone(), w.low_res.clone(), 1e-5, stage);
        assert!((g.iou - w.iou).abs() < 1e-5, "{stage}");
        assert_eq!(g.mask, w.mask, "{stage}");
    }
}

/// The predictor is preprocess, encode, decode, postprocess with coordinates moved to the input: 48 x 80 lies in 64 x 64
/// as 38 x 64.
#[test]
fn equals_its_parts() {
    let (sam, embedding) = setup();
    let device = Device::flex();
    assert_eq!((sam.image_size(), sam.patch_size()), (64, 16));
    assert_eq!((embedding.letterbox.height, embedding.letterbox.width), (38, 64));
    let prompt = PromptSet::click(40.0, 24.0).with_point([10.0, 6.0], 0);
    let prompt = PromptSet { bbox: Some([5.0, 6.0, 70.0, 42.0]), ..prompt };
    let got = sam.predict(&embedding, &prompt, Output::Multi).unwrap();
    let down = 38.0 / 48.0f64;
    let points = Tensor::<3>::from_floats([[[32.0, (24.0 * down) as f32], [8.0, (6.0 * down) as f32]]], &device);
    let boxes = Tensor::<2>::from_floats([[4.0, (6.0 * down) as f32, 56.0, (42.0 * down) as f32]], &device);
    let labels = Tensor::<2, Int>::from_ints([[1, 0]], &device);
    let prompts = Prompts { points: Some((points, labels)), boxes: Some(boxes), ..Default::default() };
    let (low_res, iou) = sam.decode(embedding.features.clone(), prompts, (64, 64), Output::Multi);
    let full = values(sam_vit::postprocess(low_res.clone(), (64, 64), (38, 64), (48, 80)));
    let iou = values(iou);
    for (i, one) in got.iter().enumerate() {
        assert_close(one.low_res.clone(), low_res.clone().narrow(1, i, 1).reshape([16, 16]), 1e-6, "low_res");
        assert_eq!(one.iou, iou[i]);
        let want: Vec<u8> = full[i * 48 * 80..(i + 1) * 48 * 80].iter().map(|v| u8::from(*v > 0.0)).collect();
        assert_eq!(one.mask.to_row_major(), want);
        assert_eq!((one.mask.height(), one.mask.width()), (48, 80));
    }
    // The toy's masks are neither empty nor full, so the comparison says something.
    assert!(got.iter().any(|m| m.mask.area() > 0 && m.mask.area() < 48 * 80));
}

#[test]
fn prompts_in_a_batch_equal_prompts_alone() {
    let (sam, embedding) = setup();
    let earlier = sam.predict(&embedding, &PromptSet::click(3.0, 4.0), Output::Single).unwrap().remove(0).low_res;
    let prompts = [
        PromptSet::click(10.0, 10.0),
        PromptSet::boxed([1.0, 2.0, 30.0, 40.0]),
        PromptSet::click(70.0, 40.0),
        PromptSet::default(),
        PromptSet::default().with_mask(earlier.clone()),
        PromptSet::boxed([20.0, 2.0, 60.0, 40.0]).with_mask(earlier.clone()),
        PromptSet::click(5.0, 5.0).with_point([50.0, 20.0], 0).with_point([0.0, 0.0], -1),
        PromptSet::boxed([20.0, 2.0, 20.0, 2.0]),
    ];
    for output in [Output::Single, Output::Multi] {
        let together = sam.predict_batch(&embedding, &prompts, output).unwrap();
        for (i, prompt) in prompts.iter().enumerate() {
            assert_same(&together[i], &sam.predict(&embedding, prompt, output).unwrap(), &format!("prompt {i}"));
        }
        // An earlier mask and other prompts make a difference.
        let apart = |a: usize, b: usize| values(together[a][0].low_res.clone()) != values(together[b][0].low_res.clone());
        assert!(apart(3, 4) && apart(0, 2) && apart(1, 5));
    }
    assert!(sam.predict_batch(&embedding, &[], Output::Single).unwrap().is_empty());
    // More prompts than one decoder call takes.
    let many: Vec<PromptSet> = (0..70).map(|i| PromptSet::click(f64::from(i), 20.0)).collect();
    let all = sam.predict_batch(&embedding, &many, Output::Single).unwrap();
    assert_same(&all[69], &sam.predict(&embedding, &many[69], Output::Single).unwrap(), "prompt 69");
}

#[test]
fn images_in_a_batch_equal_images_alone() {
    let sam = sam(&config(), &Device::flex());
    let images = [test_image(48, 80), test_image(64, 64), test_image(100, 30)];
    for canvas in [64, 96] {
        let all = sam.embed_batch(&images, canvas).unwrap();
        assert_eq!(all.iter().map(|e| e.letterbox.original).collect::<Vec<_>>(), [(48, 80), (64, 64), (100, 30)]);
        for (image, embedding) in images.iter().zip(&all) {
            let alone = sam.embed_batch(std::slice::from_ref(image), canvas).unwrap().remove(0);
            assert_eq!(alone.letterbox, embedding.letterbox);
            assert_close(embedding.features.clone(), alone.features, 1e-5, "features");
            let masks = sam.predict(embedding, &PromptSet::click(9.0, 9.0), Output::Single).unwrap();
            assert_eq!((masks[0].mask.height() as usize, masks[0].mask.width() as usize), (image.height(), image.width()));
            assert_eq!(masks[0].low_res.dims(), [canvas / 4, canvas / 4]);
        }
    }
    assert!(sam.embed_batch(&[], 64).unwrap().is_empty());
}

#[test]
fn prompts_that_make_no_sense_are_errors() {
    let (sam, embedding) = setup();
    let device = Device::flex();
    let bad = [
        (PromptSet { points: vec![[1.0, 2.0]], ..Default::default() }, "1 points but 0 labels"),
        (PromptSet { labels: vec![1], ..Default::default() }, "0 points but 1 labels"),
        (PromptSet::default().with_point([1.0, 1.0], 2), "label 2"),
        (PromptSet::click(f64::NAN, 0.0), "finite"),
        (PromptSet::boxed([0.0, f64::INFINITY, 1.0, 1.0]), "finite"),
        (PromptSet::boxed([30.0, 10.0, 5.0, 20.0]), "x0 <= x1"),
        (PromptSet::boxed([3.0, 10.0, 5.0, 2.0]), "x0 <= x1"),
        (PromptSet::default().with_mask(formula("mask", [8, 16], &device)), "[16, 16]"),
    ];
    for (prompt, word) in bad {
        let good = PromptSet::click(1.0, 1.0);
        let error = sam.predict_batch(&embedding, &[good, prompt], Output::Single).unwrap_err();
        assert!(matches!(error, SamError::Prompt { index: 1, .. }) && error.to_string().contains(word), "{error}");
    }
}

#[test]
fn thin_images_are_answered_and_wrong_inputs_refused() {
    let sam = sam(&config(), &Device::flex());
    let thin = sam.embed(&test_image(1, 500)).unwrap();
    let mask = &sam.predict(&thin, &PromptSet::click(250.0, 0.5), Output::Single).unwrap()[0].mask;
    assert_eq!((mask.height(), mask.width()), (1, 500));
    for canvas in [0, 8, 72, usize::MAX] {
        assert!(matches!(sam.embed_batch(&[test_image(9, 9)], canvas), Err(SamError::Canvas { .. })), "{canvas}");
    }
}
