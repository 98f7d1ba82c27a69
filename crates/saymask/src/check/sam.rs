//! Goldens of kind `sam`.

use anyhow::{Context, Result};
use burn::tensor::{Int, Tensor, TensorData};
use sam_vit::{ImageEncoderConfig, Output, Prompts, SamConfig, facebook_names, postprocess};
use serde::Deserialize;

use super::golden::Golden;

#[derive(Deserialize)]
struct Sizes {
    embed: usize,
    depth: usize,
    heads: usize,
    glob: Vec<usize>,
    img: Option<usize>,
    win: Option<usize>,
    patch: Option<usize>,
    mlp_ratio: Option<f64>,
    out_chans: Option<usize>,
}

#[derive(Deserialize)]
struct Postprocess {
    input_size: [usize; 2],
    original_size: [usize; 2],
}

pub(super) fn run(golden: &mut Golden) -> Result<()> {
    let sizes: Sizes = golden.meta("config")?;
    let standard = ImageEncoderConfig::default();
    let config = SamConfig {
        image_encoder: ImageEncoderConfig {
            image_size: sizes.img.unwrap_or(standard.image_size),
            patch_size: sizes.patch.unwrap_or(standard.patch_size),
            embed_dim: sizes.embed,
            depth: sizes.depth,
            heads: sizes.heads,
            mlp_ratio: sizes.mlp_ratio.unwrap_or(standard.mlp_ratio),
            out_channels: sizes.out_chans.unwrap_or(standard.out_channels),
            window_size: sizes.win.unwrap_or(standard.window_size),
            global_blocks: sizes.glob,
        },
        ..SamConfig::default()
    };
    config.validate().map_err(anyhow::Error::msg)?;
    let (sam, count) = golden.model(config.init(&golden.device), &facebook_names())?;
    golden.compare_count("parameters", count, golden.meta("parameters")?);

    let image = golden.input::<4>("in.image")?;
    let [_, _, height, width] = image.dims();
    let input = (height, width);
    let embedding = sam.image_encoder.forward(image);
    golden.compare("image_embedding", embedding.clone());

    let labels: Vec<Vec<i64>> = golden.meta("point_labels")?;
    let boxes: Vec<[f32; 4]> = golden.meta("boxes")?;
    let device = golden.device.clone();
    let label_shape = [labels.len(), labels.first().map_or(0, Vec::len)];
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels.concat(), label_shape), &device);
    let points = Some((golden.input::<3>("in.points")?, labels));
    let boxes = Some(Tensor::<2>::from_data(TensorData::new(boxes.concat(), [boxes.len(), 4]), &device));
    let masks = Some(golden.features::<4>("in.mask")?);
    let none = Prompts::default;
    let cases = [
        ("points", Prompts { points: points.clone(), ..none() }),
        ("box", Prompts { boxes: boxes.clone(), ..none() }),
        ("points_box", Prompts { points, boxes: boxes.clone(), ..none() }),
        ("mask", Prompts { masks: masks.clone(), ..none() }),
        ("box_mask", Prompts { boxes, masks: masks.clone(), ..none() }),
        ("none", none()),
    ];
    for (name, prompts) in cases {
        for (suffix, output) in [("single", Output::Single), ("multi", Output::Multi)] {
            let (low_res, iou) = sam.decode(embedding.clone(), prompts.clone(), input, output);
            golden.compare(&format!("{name}.{suffix}.low_res_masks"), low_res.clone());
            golden.compare(&format!("{name}.{suffix}.iou"), iou);
            if (name, suffix) == ("box", "single") && golden.has("postprocess") {
                let sizes: Postprocess = golden.meta("postprocess")?;
                let [valid, original] = [sizes.input_size, sizes.original_size].map(|[h, w]| (h, w));
                golden.compare("box.single.postprocessed", postprocess(low_res, input, valid, original));
            }
        }
    }
    let tokens = Some(golden.features::<3>("in.text").context("free text tokens")?);
    let (low_res, iou) = sam.decode(embedding, Prompts { masks, tokens, ..none() }, input, Output::Single);
    golden.compare("text20_mask.low_res_masks", low_res);
    golden.compare("text20_mask.iou", iou);
    Ok(())
}
