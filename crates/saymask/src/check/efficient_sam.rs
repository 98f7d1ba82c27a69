//! Goldens of kind `efficient-sam`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use burn::tensor::{DType, Int, Tensor, TensorData};
use efficient_sam::{
    EfficientSam, EfficientSamConfig, Output, efficient_sam_names, postprocess, prepare_points, preprocess, sort_by_iou,
};
use nn_ops::resize::Resize;
use nn_ops::rows::select_rows;
use nn_ops::weights::parameters;
use serde::Deserialize;

use super::golden::Golden;

/// Points per image and query.
type Points = Vec<Vec<Vec<[f32; 2]>>>;

#[derive(Deserialize)]
struct Case {
    embed: usize,
    depth: usize,
    heads: usize,
    img: usize,
    patch: usize,
    mlp_ratio: f64,
    table: [usize; 2],
    max_points: usize,
    picture: [usize; 2],
    prefix: String,
    parameters: usize,
    tensors: usize,
    points: BTreeMap<String, Points>,
    labels: BTreeMap<String, Vec<Vec<Vec<i32>>>>,
    names: Option<Vec<(String, Vec<usize>)>>,
}

pub(super) fn run(golden: &mut Golden) -> Result<()> {
    let cases: BTreeMap<String, Case> = golden.meta("cases")?;
    for (name, case) in cases {
        run_case(golden, &name, &case).with_context(|| format!("case {name}"))?;
    }
    Ok(())
}

fn run_case(golden: &mut Golden, name: &str, case: &Case) -> Result<()> {
    ensure!(case.table[0] == case.table[1], "a position table of {:?} is no square", case.table);
    let config = EfficientSamConfig {
        image_size: case.img,
        patch_size: case.patch,
        table_grid: case.table[0],
        embed_dim: case.embed,
        depth: case.depth,
        heads: case.heads,
        mlp_ratio: case.mlp_ratio,
        max_points: case.max_points,
        ..EfficientSamConfig::default()
    };
    let names = efficient_sam_names().with_prefix(&case.prefix);
    let (model, count) = golden.model(config.init(&golden.device)?, &names)?;
    golden.compare_count(&format!("{name}.parameters"), count, case.parameters);
    let ours: BTreeSet<(String, Vec<usize>)> = parameters(&model, &names).into_iter().map(|p| (p.name, p.shape)).collect();
    golden.compare_count(&format!("{name}.tensors"), ours.len(), case.tensors);
    if let Some(theirs) = &case.names {
        let theirs: BTreeSet<_> = theirs.iter().cloned().collect();
        let unlike: Vec<String> = theirs.symmetric_difference(&ours).map(|(n, s)| format!("{n} {s:?}")).collect();
        if !unlike.is_empty() {
            golden.fail(&format!("{name}.names"), unlike.join(", "));
        }
    }

    let image = golden.input::<4>(&format!("in.{name}.image"))?;
    let encoder = &model.image_encoder;
    let grid = config.grid();
    golden.compare(&format!("{name}.pos_embed"), encoder.positions(grid, grid));
    let tokens = encoder.embed(image.clone());
    let [batch, height, width, channels] = tokens.dims();
    let first = encoder.blocks[0].forward(tokens.reshape([batch, height * width, channels]));
    golden.compare(&format!("{name}.block0"), first);
    golden.compare(&format!("{name}.dense_pe"), model.prompt_encoder.pe_layer.dense(grid, grid));
    let embedding = encoder.forward(image);
    golden.compare(&format!("{name}.image_embedding"), embedding.clone());

    let text = golden.features::<3>(&format!("in.{name}.text"))?;
    for (suffix, output) in [("single", Output::Single), ("multi", Output::Multi)] {
        let (low_res, iou) = model.decode_tokens(embedding.clone(), text.clone(), output);
        let restored = Resize::BILINEAR.forward(low_res.clone().cast(DType::F32), case.picture);
        golden.compare(&format!("{name}.text.{suffix}.low_res_masks"), low_res);
        golden.compare(&format!("{name}.text.{suffix}.iou"), iou);
        golden.compare(&format!("{name}.text.{suffix}.postprocessed"), restored);
    }

    let picture = format!("in.{name}.picture");
    let embedding = if golden.input_shape(&picture).is_ok() {
        let found = encoder.forward(preprocess(golden.input(&picture)?, case.img));
        golden.compare(&format!("{name}.picture_embedding"), found.clone());
        found
    } else {
        embedding
    };
    for (kind, points) in &case.points {
        let labels = case.labels.get(kind).with_context(|| format!("`{kind}` has no labels"))?;
        prompts(golden, &format!("{name}.{kind}"), case, &model, embedding.clone(), points, labels)?;
    }
    Ok(())
}

fn prompts(
    golden: &mut Golden,
    name: &str,
    case: &Case,
    model: &EfficientSam,
    embedding: Tensor<4>,
    points: &Points,
    labels: &[Vec<Vec<i32>>],
) -> Result<()> {
    // Queries of all images in a row, each with its image.
    let image_of: Vec<usize> =
        points.iter().enumerate().flat_map(|(image, queries)| queries.iter().map(move |_| image)).collect();
    let length = points.iter().flatten().map(Vec::len).next().unwrap_or(0);
    let coordinates: Vec<f32> = points.iter().flatten().flatten().flatten().copied().collect();
    let labels: Vec<i32> = labels.iter().flatten().flatten().copied().collect();
    ensure!(
        coordinates.len() == image_of.len() * length * 2 && labels.len() == image_of.len() * length,
        "queries of unlike numbers of points"
    );
    let device = golden.device.clone();
    let coordinates = Tensor::<3>::from_data(TensorData::new(coordinates, [image_of.len(), length, 2]), &device);
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [image_of.len(), length]), &device);
    let input = (case.img, case.img);
    let picture = (case.picture[0], case.picture[1]);
    let (coordinates, labels) = prepare_points(coordinates, labels, case.max_points, picture, input);
    let sparse = model.prompt_encoder.forward(coordinates.clone(), labels.clone(), input);
    golden.compare(&format!("{name}.sparse"), sparse);
    let (low_res, iou) = model.decode_points(select_rows(embedding, &image_of), coordinates, labels, Output::Multi);
    golden.compare(&format!("{name}.low_res_masks"), low_res.clone());
    golden.compare(&format!("{name}.iou"), iou.clone());
    let (masks, iou) = sort_by_iou(postprocess(low_res.cast(DType::F32), picture), iou)?;
    golden.compare(&format!("{name}.sorted_masks"), masks);
    golden.compare(&format!("{name}.sorted_iou"), iou);
    Ok(())
}
