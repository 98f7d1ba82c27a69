//! Goldens of kind `evf-sam2`: BEiT-3, projector and SAM-2 together, on images and video, in both generations.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use burn::tensor::Tensor;
use fusion_evf::{EvfConfig, EvfModel, EvfOutput, Generation, VisualKind, loss};
use nn_ops::resize::Resize;
use sam2::{Sam2Config, VideoPrompt};
use serde::Deserialize;
use text_encoders::TextBatch;
use text_encoders::beit3::Beit3Config;

use super::golden::Golden;
use super::sam2::{sizes, video};

#[derive(Deserialize)]
struct Beit3Sizes {
    dim: usize,
    heads: usize,
    layers: usize,
    ffn: usize,
    vocab: usize,
    img_size: usize,
    patch: usize,
}

/// What the cases say that is read here.
#[derive(Deserialize)]
struct Case {
    /// The image of `inference`.
    image: Option<usize>,
    /// The row of tokens of `inference`.
    tokens: Option<usize>,
    /// The image's size.
    size: Option<[usize; 2]>,
    /// Frames of a video, by the numbers of their inputs.
    frames: Option<Vec<usize>>,
}

/// Sentences about images, as the file has them.
struct Sentences {
    rows: Vec<Vec<u32>>,
    pad: u32,
    /// Sentences of image i are those from `offset[i]` to `offset[i + 1]`.
    offset: Vec<usize>,
    /// (height, width) of each image.
    sizes: Vec<[usize; 2]>,
}

impl Sentences {
    /// All of them, padded, and the image of each.
    fn all(&self) -> Result<(TextBatch, Vec<usize>)> {
        let lengths: Vec<usize> = self.rows.iter().map(|row| self.length(row)).collect();
        let image_of = self.offset.windows(2).enumerate().flat_map(|(image, pair)| vec![image; pair[1].saturating_sub(pair[0])]);
        Ok((TextBatch::from_padded(&self.rows, &lengths)?, image_of.collect()))
    }

    /// One of them, without its padding.
    fn one(&self, row: usize) -> Result<TextBatch> {
        let row = self.rows.get(row).with_context(|| format!("`token_ids` has no row {row}"))?;
        let length = self.length(row);
        Ok(TextBatch::from_padded(&[row[..length].to_vec()], &[length])?)
    }

    fn length(&self, row: &[u32]) -> usize {
        row.iter().rposition(|id| *id != self.pad).map_or(0, |last| last + 1)
    }
}

pub(super) fn run(golden: &mut Golden) -> Result<()> {
    let beit3: Beit3Sizes = golden.meta("beit3")?;
    let base = EvfConfig {
        visual: VisualKind::Sam2,
        sam2: Sam2Config { image_encoder: sizes(golden)?, ..Sam2Config::default() },
        beit3: Beit3Config {
            vocab_size: beit3.vocab,
            dim: beit3.dim,
            layers: beit3.layers,
            heads: beit3.heads,
            ffn: beit3.ffn,
            image_size: beit3.img_size,
            patch_size: beit3.patch,
            ..Beit3Config::default()
        },
        ..EvfConfig::sam2_large()
    };
    let sentences = Sentences {
        rows: golden.meta("token_ids")?,
        pad: golden.meta("pad_id")?,
        offset: golden.meta("offset")?,
        sizes: golden.meta("sizes")?,
    };
    for (name, generation) in [("new", Generation::Second), ("old", Generation::First)] {
        if !golden.expected().iter().any(|output| output.starts_with(&format!("{name}."))) {
            continue;
        }
        let config = EvfConfig { generation, ..base.clone() };
        let (model, count) = golden.model(config.init(&golden.device)?, &config.names())?;
        golden.compare_count("parameters", count, golden.meta("parameters")?);
        generation_of(golden, name, &model, &sentences).with_context(|| format!("generation `{name}`"))?;
    }
    Ok(())
}

fn generation_of(golden: &mut Golden, name: &str, model: &EvfModel, sentences: &Sentences) -> Result<()> {
    let (images, multimodal) = (golden.input::<4>("in.image")?, golden.input::<4>("in.image_evf")?);
    let (batch, image_of) = sentences.all()?;
    ensure!(image_of.len() == batch.rows() && sentences.sizes.len() + 1 == sentences.offset.len(), "`offset` does not fit");
    let features = model.net.encode(images);
    let feature = model.extract(multimodal.clone(), &batch, &image_of)?;
    golden.compare("prompt.forward", model.net.tokens(feature.clone())?);
    // In evaluation, then as training answers.
    for (part, training) in [("", false), ("train.", true)] {
        let prefix = format!("{name}.{part}");
        if !golden.expected().iter().any(|output| output.starts_with(&format!("{prefix}forward."))) {
            continue;
        }
        let answer = model.config().answer(training);
        let EvfOutput { logits, .. } = model.net.forward_answer(features.clone(), feature.clone(), &image_of, answer)?;
        let mut compared = Vec::new();
        for (image, size) in sentences.sizes.iter().enumerate() {
            let (first, last) = (sentences.offset[image], sentences.offset[image + 1]);
            if last <= first {
                continue;
            }
            let masks = Resize::BILINEAR.forward(logits.clone().narrow(0, first, last - first), *size).squeeze_dim::<3>(1);
            golden.compare(&format!("{prefix}forward.{image}"), masks.clone());
            compared.push((masks, golden.input::<3>(&format!("in.target.{image}"))?));
        }
        let losses = loss(model.config(), compared).context("a loss of no masks")?;
        golden.compare(&format!("{prefix}loss"), losses.total);
        golden.compare(&format!("{prefix}mask_bce_loss"), losses.bce);
        golden.compare(&format!("{prefix}mask_dice_loss"), losses.dice);
    }

    let cases: BTreeMap<String, Case> = golden.meta("cases")?;
    let inference = cases.get(&format!("{name}.inference")).context("no case of inference")?;
    let (image, row) = (inference.image.unwrap_or(0), inference.tokens.unwrap_or(0));
    let size = inference.size.or_else(|| sentences.sizes.get(image).copied()).context("inference has no size")?;
    let one = |map: &Tensor<4>| map.clone().narrow(0, image, 1);
    let feature = model.extract(one(&multimodal), &sentences.one(row)?, &[0])?;
    let tokens = model.net.tokens(feature.clone())?;
    golden.compare("prompt.inference", tokens.clone());
    let output = model.net.forward(features.iter().map(one).collect(), feature, &[0])?;
    golden.compare(&format!("{name}.inference"), Resize::BILINEAR.forward(output.logits, size));

    let film = format!("{name}.video");
    if let Some(numbers) = cases.get(&film).and_then(|case| case.frames.as_ref()) {
        golden.compare(&format!("{film}.prompt"), tokens.clone());
        let sam2 = model.net.visual_model.sam2().context("not on SAM-2")?;
        let mut frames = Vec::with_capacity(numbers.len());
        for number in numbers {
            frames.push(sam2.encode(golden.input::<3>(&format!("in.frame.{number}"))?.unsqueeze::<4>()));
        }
        let padded = model.config().generation == Generation::First;
        video(golden, sam2, &film, frames, &VideoPrompt::Tokens { tokens, padded })?;
    }
    Ok(())
}
