//! Goldens of kind `sam2`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use burn::tensor::{Int, Tensor, TensorData};
use nn_ops::resize::Resize;
use nn_ops::weights::parameters;
use pil_ops::Image;
use sam_vit::Prompts;
use sam2::{
    Answer, Decoded, Direction, Features, Frame, FrameMemory, HOLE_AREA, HieraConfig, MemoryBank, Naming, Resampling, Sam2,
    Sam2Config, Sam2Video, VideoPrompt, fill_holes, preprocess, sine,
};
use serde::Deserialize;
use serde_json::Value;

use super::golden::Golden;

#[derive(Deserialize)]
struct Sizes {
    embed: usize,
    heads: usize,
    stages: [usize; 4],
    glob: Vec<usize>,
    win: [usize; 4],
    pos: usize,
    img: usize,
}

/// What the cases say that is read here.
#[derive(Deserialize)]
struct Case {
    /// Frames of a video, by the numbers of their inputs.
    frames: Option<Vec<usize>>,
    /// A video's text.
    text: Option<String>,
    /// The frame that looks at a bank.
    frame: Option<usize>,
    /// Side of preprocessed figures.
    size: Option<usize>,
}

/// A video of the first generation of text-prompted checkpoints.
const FIRST_GENERATION: &str = "old";

/// The image encoder's sizes, as the file has them.
pub(super) fn sizes(golden: &Golden) -> Result<HieraConfig> {
    let sizes: Sizes = golden.meta("config")?;
    Ok(HieraConfig {
        image_size: sizes.img,
        embed_dim: sizes.embed,
        heads: sizes.heads,
        stages: sizes.stages,
        global_blocks: sizes.glob,
        windows: sizes.win,
        position_side: sizes.pos,
    })
}

pub(super) fn run(golden: &mut Golden) -> Result<()> {
    let config = Sam2Config { image_encoder: sizes(golden)?, ..Sam2Config::default() };
    config.validate().map_err(anyhow::Error::msg)?;
    let names = Naming::RenamedScale.names().with_prefix("visual_model.");
    let (sam2, count) = golden.model(config.init(&golden.device), &names)?;
    golden.compare_count("parameters", count, golden.meta("parameters")?);
    if golden.has("trunk_parameters") {
        let trunk = parameters(&sam2.image_encoder.trunk, &names);
        let count = trunk.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        golden.compare_count("trunk_parameters", count, golden.meta("trunk_parameters")?);
    }
    let cases: BTreeMap<String, Case> = golden.meta("cases")?;
    if has(golden, "in.image") {
        image_mode(golden, &sam2)?;
    }
    if has(golden, "in.image.faint") {
        let image = golden.input::<4>("in.image.faint")?;
        stages(golden, "faint.", &sam2.image_encoder.trunk.forward(image));
    }
    parts(golden, &sam2)?;
    let mut frames = BTreeMap::new();
    for (name, case) in &cases {
        if let Some(frame) = case.frame {
            bank(golden, &sam2, name, frame)?;
        }
        if let Some(side) = case.size {
            resizes(golden, name, side)?;
        }
        if let (Some(numbers), Some(text)) = (&case.frames, &case.text) {
            for number in numbers {
                if !frames.contains_key(number) {
                    let image = golden.input::<3>(&format!("in.frame.{number}"))?.unsqueeze::<4>();
                    frames.insert(*number, sam2.encode(image));
                }
            }
            let features = numbers.iter().map(|number| frames[number].clone()).collect();
            let prompt = VideoPrompt::Tokens { tokens: golden.input::<3>(text)?, padded: name == FIRST_GENERATION };
            video(golden, &sam2, name, features, &prompt)?;
        }
    }
    Ok(())
}

fn has(golden: &Golden, input: &str) -> bool {
    golden.input_shape(input).is_ok()
}

fn stages(golden: &mut Golden, prefix: &str, stages: &[Tensor<4>]) {
    for (i, stage) in stages.iter().enumerate() {
        golden.compare(&format!("{prefix}trunk.stage{}", i + 1), stage.clone().permute([0, 3, 1, 2]));
    }
}

/// Encoder, and the decoder on its outputs.
fn image_mode(golden: &mut Golden, sam2: &Sam2) -> Result<()> {
    let image = golden.input::<4>("in.image")?;
    let side = [image.dims()[2], image.dims()[3]];
    let encoder = &sam2.image_encoder;
    golden.compare("trunk.embed", encoder.trunk.embed(image.clone()).permute([0, 3, 1, 2]));
    let outputs = encoder.trunk.forward(image);
    stages(golden, "", &outputs);
    let levels = encoder.neck.forward(outputs);
    for (i, level) in levels.iter().enumerate() {
        golden.compare(&format!("fpn.f{i}"), level.clone());
    }
    let [f0, f1, f2, _] = <[Tensor<4>; 4]>::try_from(levels).map_err(|_| anyhow!("the encoder has not four levels"))?;
    let [_, channels, height, width] = f2.dims();
    golden.compare("pe.sine256", sine(channels, [height, width], &golden.device, f2.dtype()));
    golden.compare("pe.dense", sam2.sam_prompt_encoder.pe_layer.dense(height, width));
    let (h1, h0) = sam2.sam_mask_decoder.high_res(f1, f0);
    golden.compare("high_res.h0", h0.clone());
    golden.compare("high_res.h1", h1.clone());
    let features = sam2.without_memory(Features { image: f2, h1, h0 });
    golden.compare("image_embed", features.image.clone());

    let text = golden.input::<3>("in.text")?;
    for (name, prompts) in prompts(golden, &text)? {
        if golden.expected().iter().any(|e| e.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))) {
            decoder(golden, sam2, name, &features.one(0), prompts)?;
        }
    }
    if golden.expected().iter().any(|e| e.starts_with("heads.")) {
        let image_of: Vec<usize> = (0..text.dims()[0]).collect();
        let decoded = sam2.decode(&features, &image_of, Prompts { tokens: Some(text), ..Prompts::default() })?;
        let heads = sam2.heads(&decoded, Answer::BestOfThree);
        golden.compare("heads.high_res", Resize::BILINEAR.forward(heads.low_res.clone(), side));
        golden.compare("heads.low_res", heads.low_res);
        golden.compare("heads.obj_ptr", heads.pointer);
        golden.compare("heads.iou", decoded.answer(Answer::Three).1);
        golden.compare("heads.object_score", decoded.object_score);
    }
    Ok(())
}

/// The prompts that a file has inputs for.
fn prompts(golden: &Golden, text: &Tensor<3>) -> Result<Vec<(&'static str, Prompts)>> {
    let device = &golden.device;
    let [count, ..] = text.dims();
    let labelled = |coordinates: Tensor<3>, labels: Vec<Vec<i64>>| {
        let shape = [labels.len(), labels.first().map_or(0, Vec::len)];
        let labels = Tensor::<2, Int>::from_data(TensorData::new(labels.concat(), shape), device);
        Some((coordinates, labels))
    };
    let nothing = labelled(Tensor::zeros([count, 1, 2], device), vec![vec![-1]; count]);
    let (none, tokens) = (Prompts::default, Some(text.clone()));
    let mut all = vec![
        ("text", Prompts { tokens: tokens.clone(), ..none() }),
        ("empty", Prompts { points: nothing.clone(), ..none() }),
        ("empty_text", Prompts { points: nothing, tokens: tokens.clone(), ..none() }),
    ];
    if has(golden, "in.points") {
        let points = golden.input::<3>("in.points")?;
        let labels: Vec<Vec<i64>> = golden.meta("point_labels")?;
        all.push(("points", Prompts { points: labelled(points.clone(), labels.clone()), ..none() }));
        if golden.has("boxes") {
            let boxes: Vec<[f32; 4]> = golden.meta("boxes")?;
            let corners = Tensor::<1>::from_floats(boxes.concat().as_slice(), device).reshape([boxes.len(), 2, 2]);
            let kinds = vec![vec![2, 3]; boxes.len()];
            all.push(("box", Prompts { points: labelled(corners.clone(), kinds.clone()), ..none() }));
            let labels = kinds.into_iter().zip(labels).map(|(kinds, labels)| [kinds, labels].concat()).collect();
            all.push(("box_points", Prompts { points: labelled(Tensor::cat(vec![corners, points], 1), labels), ..none() }));
        }
    }
    if has(golden, "in.mask") {
        let masks = Some(golden.input::<4>("in.mask")?);
        all.push(("mask", Prompts { masks: masks.clone(), ..none() }));
        all.push(("mask_text", Prompts { masks, tokens, ..none() }));
    }
    Ok(all)
}

fn decoder(golden: &mut Golden, sam2: &Sam2, name: &str, features: &Features, prompts: Prompts) -> Result<()> {
    let [_, _, height, width] = features.h0.dims();
    let (sparse, dense) = sam2.sam_prompt_encoder.forward(prompts.clone(), (4 * height, 4 * width));
    golden.compare(&format!("{name}.sparse"), sparse);
    golden.compare(&format!("{name}.dense"), dense);
    let decoded = sam2.decode(features, &[], prompts)?;
    let (masks, iou) = decoded.answer(Answer::StableElseBest);
    golden.compare(&format!("{name}.single.low_res_masks"), masks);
    golden.compare(&format!("{name}.single.iou"), iou);
    golden.compare(&format!("{name}.stability"), decoded.stability());
    golden.compare(&format!("{name}.low_res_masks"), decoded.low_res);
    golden.compare(&format!("{name}.iou"), decoded.iou);
    golden.compare(&format!("{name}.mask_tokens"), decoded.mask_tokens);
    golden.compare(&format!("{name}.object_score"), decoded.object_score);
    Ok(())
}

/// What has inputs of its own: stability, holes, memories.
fn parts(golden: &mut Golden, sam2: &Sam2) -> Result<()> {
    if has(golden, "in.stability.iou") {
        let rows = ["stable", "unstable", "empty"].map(|row| golden.input::<3>(&format!("in.stability.{row}")));
        let rows = rows.into_iter().collect::<Result<Vec<_>>>()?;
        let iou = golden.input::<2>("in.stability.iou")?;
        let [count, masks] = iou.dims();
        let decoded = Decoded {
            low_res: Tensor::stack::<4>(rows, 0),
            iou,
            mask_tokens: Tensor::zeros([count, masks, 1], &golden.device),
            object_score: Tensor::zeros([count, 1], &golden.device),
        };
        golden.compare("stability.score", decoded.stability());
        let (masks, iou) = decoded.answer(Answer::StableElseBest);
        golden.compare("stability.masks", masks);
        golden.compare("stability.iou", iou);
    }
    if has(golden, "in.holes") {
        let logits = golden.input::<4>("in.holes")?;
        golden.compare("holes.filled", fill_holes(logits, HOLE_AREA)?);
    }
    if has(golden, "in.memory.pix") {
        let (image, logits) = (golden.input::<4>("in.memory.pix")?, golden.input::<4>("in.memory.logits")?);
        let [_, _, height, width] = image.dims();
        for (name, prompted) in [("memory.binary", true), ("memory.sigmoid", false)] {
            let memory = sam2.memorise(image.clone(), logits.clone(), prompted);
            if prompted {
                golden.compare("pe.sine64", sine(memory.dims()[1], [height, width], &golden.device, image.dtype()));
            }
            golden.compare(name, memory);
        }
    }
    Ok(())
}

/// A frame that looks at formula memories of all frames before it, of which the first was prompted.
fn bank(golden: &mut Golden, sam2: &Sam2, name: &str, frame: usize) -> Result<()> {
    let mut bank = MemoryBank::default();
    for before in 0..frame {
        let memory = golden.input::<4>(&format!("in.bank.memory.{before}"))?;
        let memory = FrameMemory::new(memory, golden.input::<2>(&format!("in.bank.pointer.{before}"))?);
        let index = i64::try_from(before)?;
        if before == 0 { bank.keep_prompted(index, memory) } else { bank.keep(index, memory, sam2.reach()) }
    }
    let tokens = bank.read(sam2, i64::try_from(frame)?, Direction::Forward).context("the bank is empty")?;
    let own = format!("in.bank.f2.{}", name.trim_start_matches("bank."));
    let image = golden.input::<4>(if has(golden, &own) { &own } else { "in.bank.f2" })?;
    let (conditioned, layers) = sam2.memory_attention.forward_taps(image, &tokens);
    golden.compare(&format!("{name}.memory"), tokens.values);
    golden.compare(&format!("{name}.memory_pos"), tokens.positions);
    golden.compare(&format!("{name}.conditioned"), conditioned);
    for (i, layer) in layers.into_iter().enumerate() {
        golden.compare(&format!("{name}.layer{i}"), layer);
    }
    Ok(())
}

/// The ways of resizing, on bytes.
fn resizes(golden: &mut Golden, name: &str, side: usize) -> Result<()> {
    let ways = [
        ("pil_bilinear", Resampling::PilBilinear),
        ("torch_u8_bilinear", Resampling::TorchU8Bilinear),
        ("long_side_stretch", Resampling::LongSideStretch),
        ("video", Resampling::Video),
    ];
    let inputs: BTreeMap<String, Value> = golden.meta("inputs")?;
    for input in inputs.keys().filter(|input| input.starts_with("in.photo.")) {
        let [height, width, channels] = <[usize; 3]>::try_from(golden.input_shape(input)?)
            .map_err(|shape| anyhow!("`{input}` is {shape:?}: must be height, width, channels"))?;
        let bytes = golden.input_values(input)?.into_iter().map(|v| v as u8).collect();
        let image = Image::new(width, height, channels, bytes)?;
        for (way, resampling) in ways {
            let got = preprocess(&image, side, resampling)?;
            golden.compare_values(&format!("{name}.{}.{way}", input.trim_start_matches("in.photo.")), &got);
        }
    }
    Ok(())
}

/// What is prompted on the first frame, followed through the others.
pub(super) fn video(golden: &mut Golden, sam2: &Sam2, name: &str, features: Vec<Features>, prompt: &VideoPrompt) -> Result<()> {
    let size: [usize; 2] = golden.meta("video_size")?;
    let mut video = Sam2Video::new();
    let (mut scores, mut iou) = (Vec::new(), Vec::new());
    for (index, features) in features.into_iter().enumerate() {
        let frame = Frame { index: i64::try_from(index)?, size: size.into(), features };
        let mask = if index == 0 {
            video.prompt(sam2, 0, &frame, prompt)?
        } else {
            video.track(sam2, &frame)?.pop().context("an object was lost")?
        };
        let of = |what: &str| format!("{name}.{index}.{what}");
        let (logits, predicted) = mask.decoded.answer(Answer::Three);
        golden.compare(&of("logits"), logits);
        golden.compare(&of("video"), mask.logits());
        golden.compare(&of("low_res"), mask.low_res.clone());
        golden.compare(&of("obj_ptr"), mask.pointer);
        golden.compare(&of("memory"), mask.memory);
        if let Some(conditioned) = mask.conditioned {
            golden.compare(&of("conditioned"), conditioned);
        }
        scores.push(mask.object_score);
        iou.push(predicted);
    }
    golden.compare_values(&format!("{name}.object_score"), &scores);
    golden.compare(&format!("{name}.iou"), Tensor::cat(iou, 0));
    Ok(())
}
