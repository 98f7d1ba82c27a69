//! Images: prompts in the image's own pixels, masks at its size.

use burn::tensor::{Int, Tensor};
use sam_vit::{PromptSet, Prompts, SamError};
use sam2::{Answer, Features, Resampling, Sam2Error};

use crate::toy::{assert_close, config, distance, formula, sam2, test_image, values};

#[test]
fn masks_have_the_size_of_the_image() {
    let sam2 = sam2(&config());
    let embedding = sam2.embed(&test_image(1, 30, 50)).unwrap();
    let prompt = PromptSet::boxed([5.0, 5.0, 40.0, 20.0]).with_point([20.0, 10.0], 0);
    let three = sam2.predict(&embedding, &prompt, Answer::Three).unwrap();
    assert_eq!(three.len(), 3);
    assert!(three.iter().all(|m| (m.mask.height(), m.mask.width(), m.low_res.dims()) == (30, 50, [16, 16])));
    let best = sam2.predict(&embedding, &prompt, Answer::BestOfThree).unwrap();
    let largest = three.iter().map(|m| m.iou).fold(0.0, f32::max);
    assert_eq!((best.len(), best[0].iou), (1, largest));
    // An answer may be the mask prompt of the next question.
    let again = prompt.with_mask(best[0].low_res.clone());
    let refined = sam2.predict(&embedding, &again, Answer::First).unwrap();
    assert!(distance(&refined[0].low_res, &best[0].low_res) > 1e-3);
}

/// Prompts of several makes, shuffled, answer as each alone.
#[test]
fn batches_keep_their_order() {
    let sam2 = sam2(&config());
    let embedding = sam2.embed(&test_image(2, 40, 40)).unwrap();
    let click = |x: f64| PromptSet::click(x, 12.0);
    let prompts = [click(3.0), PromptSet::boxed([1.0, 2.0, 30.0, 35.0]), click(22.0), PromptSet::default(), click(30.0)];
    let together = sam2.predict_batch(&embedding, &prompts, Answer::StableElseBest).unwrap();
    for (prompt, got) in prompts.iter().zip(&together) {
        let alone = sam2.predict(&embedding, prompt, Answer::StableElseBest).unwrap();
        assert_eq!(got.len(), 1);
        assert_close(&got[0].low_res, &alone[0].low_res, 1e-4, "low-resolution logits");
    }
    assert!(distance(&together[0][0].low_res, &together[2][0].low_res) > 1e-3, "clicks matter");
}

/// Sentences of several images in one call answer as those of each image alone.
#[test]
fn tokens_find_their_image() {
    let sam2 = sam2(&config());
    let features = Features::new(sam2.features(formula("images", [2, 3, 64, 64]))).unwrap();
    let tokens = formula::<3>("tokens", [3, 1, 32]);
    let image_of = [1, 0, 1];
    let (masks, iou) = sam2.decode_tokens(&features, &image_of, tokens.clone(), Answer::BestOfThree).unwrap();
    assert_eq!((masks.dims(), iou.dims()), ([3, 1, 16, 16], [3, 1]));
    for (row, image) in image_of.into_iter().enumerate() {
        let token = tokens.clone().narrow(0, row, 1);
        let (mask, score) = sam2.decode_tokens(&features.one(image), &[], token, Answer::BestOfThree).unwrap();
        assert_close(&masks.clone().narrow(0, row, 1), &mask, 1e-4, "masks");
        assert_close(&iou.clone().narrow(0, row, 1), &score, 1e-4, "iou");
    }
    for wrong in [&[0, 1][..], &[0, 1, 2], &[]] {
        let error = sam2.decode_tokens(&features, wrong, tokens.clone(), Answer::First).unwrap_err().to_string();
        assert!(error.contains("3 numbers below 2"), "{error}");
    }
}

#[test]
fn features_can_be_kept() {
    let sam2 = sam2(&config());
    let maps = sam2.features(formula("image", [1, 3, 64, 64]));
    let shapes: Vec<[usize; 4]> = maps.iter().map(Tensor::dims).collect();
    assert_eq!(shapes, [[1, 32, 4, 4], [1, 8, 8, 8], [1, 4, 16, 16]]);
    let error = Features::new(maps[..2].to_vec()).unwrap_err().to_string();
    assert!(error.contains("must be three"), "{error}");
    let swapped = vec![maps[0].clone(), maps[2].clone(), maps[1].clone()];
    assert!(Features::new(swapped).unwrap_err().to_string().contains("[1, 8, 8, 8]"));
}

#[test]
fn other_sizes_and_ways() {
    let sam2 = sam2(&config());
    let image = test_image(3, 20, 70);
    assert_eq!(sam2.input_multiple(), 32);
    let large = sam2.embed_batch(std::slice::from_ref(&image), 96, Resampling::TorchU8Bilinear).unwrap().remove(0);
    assert_eq!(large.features.image.dims(), [1, 32, 6, 6]);
    assert_eq!(sam2.predict(&large, &PromptSet::click(1.0, 1.0), Answer::First).unwrap()[0].low_res.dims(), [24, 24]);
    for canvas in [0, 80, 8224] {
        assert!(
            matches!(sam2.embed_batch(std::slice::from_ref(&image), canvas, Resampling::Video), Err(Sam2Error::Canvas { .. })),
            "{canvas}"
        );
    }
}

/// Images of several sizes encoded together are what they are alone.
#[test]
fn images_share_a_pass() {
    let sam2 = sam2(&config());
    let images = [test_image(5, 30, 50), test_image(6, 90, 20)];
    let together = sam2.embed_batch(&images, 64, Resampling::default()).unwrap();
    for (image, got) in images.iter().zip(&together) {
        let alone = sam2.embed(image).unwrap();
        assert_eq!(got.letterbox, alone.letterbox);
        assert_close(&got.features.image, &alone.features.image, 1e-4, "features");
        assert_close(&got.features.h0, &alone.features.h0, 1e-4, "finest features");
    }
    assert!(sam2.embed_batch(&[], 64, Resampling::default()).unwrap().is_empty());
}

#[test]
fn prompts_that_make_no_sense() {
    let sam2 = sam2(&config());
    let embedding = sam2.embed(&test_image(4, 8, 8)).unwrap();
    let wrong = [
        PromptSet::default().with_point([1.0, f64::NAN], 1),
        PromptSet::default().with_point([1.0, 1.0], 2),
        PromptSet::boxed([5.0, 5.0, 1.0, 6.0]),
        PromptSet::default().with_mask(formula("mask", [8, 8])),
    ];
    for prompt in wrong {
        let error = sam2.predict(&embedding, &prompt, Answer::First).unwrap_err();
        assert!(matches!(error, Sam2Error::Sam(SamError::Prompt { index: 0, .. })), "{error}");
    }
}

/// A box is its two corners as points, in front of the others; a padding point follows either.
#[test]
fn a_box_is_two_points() {
    let sam2 = sam2(&config());
    let boxes = formula::<2>("box", [1, 4]) * 20.0 + 30.0;
    let labels = Tensor::<2, Int>::from_ints([[2, 3]], &boxes.device());
    let points = Some((boxes.clone().reshape([1, 2, 2]), labels));
    let encode = |prompts| sam2.sam_prompt_encoder.forward(prompts, (64, 64)).0;
    let as_points = encode(Prompts { points, ..Prompts::default() });
    let as_box = encode(Prompts { boxes: Some(boxes.clone()), ..Prompts::default() });
    assert_eq!(as_points.dims(), [1, 3, 32]);
    assert_close(&as_points.clone().narrow(1, 0, 2), &as_box, 1e-6, "corners");
    // The predictor asks in the same way: the image is as large as the input here.
    let image = test_image(5, 64, 64);
    let embedding = sam2.embed(&image).unwrap();
    let b = values(&boxes).iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let (x, y) = ([b[0].min(b[2]), b[0].max(b[2])], [b[1].min(b[3]), b[1].max(b[3])]);
    let prompt = PromptSet::boxed([x[0], y[0], x[1], y[1]]).with_point([9.0, 8.0], 1);
    let got = sam2.predict(&embedding, &prompt, Answer::First).unwrap();
    let corners = [x[0], y[0], x[1], y[1], 9.0, 8.0].map(|v| v as f32);
    let corners = Tensor::<1>::from_floats(corners, &boxes.device()).reshape([1, 3, 2]);
    let labels = Tensor::<2, Int>::from_ints([[2, 3, 1]], &boxes.device());
    let prompts = Prompts { points: Some((corners, labels)), ..Prompts::default() };
    let want = sam2.decode(&embedding.features, &[], prompts).unwrap().answer(Answer::First).0;
    assert_close(&got[0].low_res, &want.reshape([16, 16]), 1e-5, "answers to a box and a point");
    let padding = values(&sam2.sam_prompt_encoder.not_a_point_embed.weight.val());
    assert_eq!(values(&as_points.narrow(1, 2, 1)), padding);
}
