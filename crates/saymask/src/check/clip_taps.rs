//! Goldens of kind `clip-taps`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow};
use nn_ops::activation::Activation;
use nn_ops::formula;
use nn_ops::weights::{Parameter, StateDict, parameters};
use serde::Deserialize;
use text_encoders::clip::{ClipVision, ClipVisionConfig};

use super::golden::Golden;

#[derive(Deserialize)]
struct Case {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    patch_size: usize,
    image_size: usize,
    taps: Vec<usize>,
    hidden_act: Activation,
    names_of: String,
    parameters: usize,
    tensors: usize,
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
    let config = ClipVisionConfig {
        image_size: case.image_size,
        patch_size: case.patch_size,
        width: case.hidden_size,
        layers: case.num_hidden_layers,
        heads: case.num_attention_heads,
        ffn: case.intermediate_size,
        activation: case.hidden_act,
        ..ClipVisionConfig::default()
    };
    config.validate()?;
    let mut named = parameters(&config.init(&golden.device), &ClipVision::names());
    // The reference ends with the last norm.
    named.retain(|p| !p.name.starts_with("visual_projection."));
    match case.names_of.as_str() {
        "hf" => {}
        "openai" => named = openai(named),
        other => return Err(anyhow!("names_of `{other}`: expected hf or openai")),
    }
    let count = named.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    golden.compare_count(&format!("{name}.parameters"), count, case.parameters);
    golden.compare_count(&format!("{name}.tensors"), named.len(), case.tensors);
    let ours: BTreeSet<(String, Vec<usize>)> = named.into_iter().map(|p| (p.name, p.shape)).collect();
    if let Some(theirs) = &case.names {
        let theirs: BTreeSet<_> = theirs.iter().cloned().collect();
        let unlike: Vec<String> = theirs.symmetric_difference(&ours).map(|(n, s)| format!("{n} {s:?}")).collect();
        if !unlike.is_empty() {
            golden.fail(&format!("{name}.names"), unlike.join(", "));
        }
    }
    let seed = golden.seed()?;
    let mut file = StateDict::empty(name);
    for (key, shape) in ours {
        let values = formula::weight(&seed, &key, &shape);
        file.insert(key, &shape, values);
    }
    let (model, _) = config.load_taps(file, &golden.device)?;

    // Both namings of a size see one image.
    let size = name.split('.').next().unwrap_or(name);
    let image = golden.input::<4>(&format!("in.{size}.image"))?;
    let (embedding, [rows, columns]) = model.embed(image.clone());
    golden.compare(&format!("{name}.positions"), model.positions(rows, columns));
    golden.compare(&format!("{name}.embedding"), embedding);
    for (index, tap) in model.taps(image, &case.taps)?.into_iter().enumerate() {
        golden.compare(&format!("{name}.tap{}", index + 1), tap);
    }
    Ok(())
}

/// Hugging Face's parameters under OpenAI's names: queries, keys and values are one tensor there.
fn openai(named: Vec<Parameter>) -> Vec<Parameter> {
    const RULES: &[(&str, &str)] = &[
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
        ("vision_model.pre_layrnorm.", "visual.ln_pre."),
        ("vision_model.post_layernorm.", "visual.ln_post."),
        ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
        (".layer_norm1.", ".ln_1."),
        (".layer_norm2.", ".ln_2."),
        (".mlp.fc1.", ".mlp.c_fc."),
        (".mlp.fc2.", ".mlp.c_proj."),
        (".self_attn.q_proj.", ".attn.in_proj_"),
        (".self_attn.out_proj.", ".attn.out_proj."),
    ];
    let apart = |p: &Parameter| [".k_proj.", ".v_proj."].iter().any(|part| p.name.contains(part));
    let rename = |mut p: Parameter| {
        if p.name.contains(".q_proj.") {
            p.shape[0] *= 3;
        }
        p.name = RULES.iter().fold(p.name, |name, (from, to)| name.replace(from, to));
        p
    };
    named.into_iter().filter(|p| !apart(p)).map(rename).collect()
}
