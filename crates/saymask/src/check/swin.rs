//! Goldens of kind `swin`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow};
use burn::module::Module;
use burn::tensor::Tensor;
use fusion_risam::{Backbone, RisamConfig, RisamNet, align_taps};
use nn_ops::weights::parameters;
use serde::Deserialize;
use swin::{Swin, SwinConfig, WindowGrid, resize_table};

use super::golden::Golden;

#[derive(Deserialize)]
struct Case {
    embed: usize,
    depths: Vec<usize>,
    heads: Vec<usize>,
    window: usize,
    patch: usize,
    mlp_ratio: f64,
    prefix: String,
    width: usize,
    parameters: usize,
    tensors: usize,
    fe_parameters: usize,
    names: Option<Vec<(String, Vec<usize>)>>,
}

#[derive(Deserialize)]
struct Table {
    input: String,
    to_window: usize,
}

pub(super) fn run(golden: &mut Golden) -> Result<()> {
    let cases: BTreeMap<String, Case> = golden.meta("cases")?;
    for (name, case) in cases {
        run_case(golden, &name, case).with_context(|| format!("case {name}"))?;
    }
    if golden.has("table") {
        let table: Table = golden.meta("table")?;
        golden.compare("table_resized", resize_table(golden.input(&table.input)?, table.to_window));
    }
    Ok(())
}

fn run_case(golden: &mut Golden, name: &str, case: Case) -> Result<()> {
    let stages = case.depths.len();
    let swin = SwinConfig {
        patch_size: case.patch,
        embed_dim: case.embed,
        depths: case.depths,
        heads: case.heads,
        window: case.window,
        mlp_ratio: case.mlp_ratio,
        output_norms: (1..stages).collect(),
        ..SwinConfig::default()
    };
    let names = Swin::names().with_prefix(&case.prefix);
    let (model, count) = golden.model(swin.init(&golden.device)?, &names)?;
    golden.compare_count(&format!("{name}.parameters"), count, case.parameters);
    let ours: BTreeSet<(String, Vec<usize>)> = parameters(&model, &names).into_iter().map(|p| (p.name, p.shape)).collect();
    golden.compare_count(&format!("{name}.tensors"), ours.len(), case.tensors);
    if let Some(theirs) = case.names {
        let unlike: Vec<String> =
            theirs.into_iter().collect::<BTreeSet<_>>().symmetric_difference(&ours).map(|(n, s)| format!("{n} {s:?}")).collect();
        if !unlike.is_empty() {
            golden.fail(&format!("{name}.names"), unlike.join(", "));
        }
    }

    let image = golden.input::<4>(&format!("in.{name}.image"))?;
    let patches = model.patch_embed.forward(image.clone());
    golden.compare(&format!("{name}.patch_embed"), patches.clone());
    let [_, height, width, _] = patches.dims();
    let grid = WindowGrid::new(height, width, case.window, false, &golden.device);
    golden.compare(&format!("{name}.block0"), model.layers[0].blocks[0].forward(patches.clone(), &grid));
    let mut x = patches;
    for (stage, layer) in model.layers.iter().enumerate() {
        x = layer.forward(x, case.window);
        if let Some(downsample) = &layer.downsample {
            x = downsample.forward(x);
            golden.compare(&format!("{name}.merge{stage}"), x.clone());
        }
    }
    let maps = model.forward(image)?;
    for (stage, map) in maps.iter().enumerate() {
        golden.compare(&format!("{name}.stage{}", stage + 1), map.clone());
    }
    let taps: [Tensor<4>; 3] =
        maps[stages.saturating_sub(3)..].to_vec().try_into().map_err(|_| anyhow!("{stages} stages give no three taps"))?;
    let [one, _, three] = align_taps(&taps);
    golden.compare(&format!("{name}.tap1"), one);
    golden.compare(&format!("{name}.tap3"), three);

    let config = RisamConfig {
        backbone: Backbone::Swin,
        swin,
        taps: [stages - 3, stages - 2, stages - 1],
        width: case.width,
        ..RisamConfig::default()
    };
    let (net, _) = golden.model(config.init_net(&golden.device), &RisamNet::names())?;
    let of_enhancement = |p: &&nn_ops::weights::Parameter| p.name.starts_with("fe.") && !p.name.contains(".running_");
    let all = parameters(&net, &RisamNet::names());
    let count = all.iter().filter(of_enhancement).map(|p| p.shape.iter().product::<usize>()).sum();
    golden.compare_count(&format!("{name}.fe_parameters"), count, case.fe_parameters);
    let net = net.valid();
    let fusion = net.fusion().context("RISAM has no feature enhancement")?;
    golden.compare(&format!("{name}.feature_enhancement"), fusion.fe.forward(&taps));
    Ok(())
}
