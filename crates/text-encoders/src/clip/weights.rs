//! CLIP state dicts of OpenAI and OpenCLIP under Hugging Face's keys.

use nn_ops::weights::{StateDict, WeightsError};

/// Renames OpenAI's and OpenCLIP's tensors to Hugging Face names; a checkpoint that has those already is returned as it
/// is. Fused query-key-value tensors are cut in three, projections are transposed, counters are dropped.
///
/// # Errors
/// When a fused tensor cannot be cut or a projection cannot be read.
pub fn hugging_face_names(state_dict: StateDict) -> Result<StateDict, WeightsError> {
    let theirs = state_dict.names().any(|name| name.contains("resblocks."));
    if !theirs {
        return Ok(state_dict);
    }
    let mut state_dict = state_dict.rename(|name| {
        // OpenCLIP's newer text towers carry a prefix of their own.
        let name = name.strip_prefix("text.").unwrap_or(name);
        match name {
            "input_resolution" | "context_length" | "vocab_size" | "attn_mask" => None,
            _ => Some(translate(name)),
        }
    })?;
    let fused: Vec<String> = state_dict.names().filter(|name| name.contains(".self_attn.in_proj_")).map(str::to_owned).collect();
    for name in fused {
        let parts = ["q", "k", "v"].map(|part| name.replace("in_proj_", &format!("{part}_proj.")));
        state_dict.split_rows(&name, &parts)?;
    }
    for name in ["text_projection", "visual_projection"] {
        if let Some(&[from, to]) = state_dict.shape(name) {
            let values = state_dict.read(name)?;
            let turned = (0..to * from).map(|at| values[at % from * to + at / from]).collect();
            state_dict.insert(format!("{name}.weight"), &[to, from], turned);
            state_dict = state_dict.rename(|other| (other != name).then(|| other.to_owned()))?;
        }
    }
    Ok(state_dict)
}

fn translate(name: &str) -> String {
    let (tower, rest) = match name.strip_prefix("visual.") {
        Some(rest) => ("vision_model", rest),
        None => ("text_model", name),
    };
    match rest {
        "positional_embedding" => format!("{tower}.embeddings.position_embedding.weight"),
        "token_embedding.weight" => format!("{tower}.embeddings.token_embedding.weight"),
        "class_embedding" => format!("{tower}.embeddings.class_embedding"),
        "conv1.weight" => format!("{tower}.embeddings.patch_embedding.weight"),
        "proj" => "visual_projection".to_owned(),
        "text_projection" | "logit_scale" => rest.to_owned(),
        _ => {
            let mut name = format!("{tower}.{rest}");
            for (from, to) in [
                ("transformer.resblocks.", "encoder.layers."),
                (".ln_1.", ".layer_norm1."),
                (".ln_2.", ".layer_norm2."),
                (".mlp.c_fc.", ".mlp.fc1."),
                (".mlp.c_proj.", ".mlp.fc2."),
                (".attn.", ".self_attn."),
                (".ln_final.", ".final_layer_norm."),
                (".ln_pre.", ".pre_layrnorm."),
                (".ln_post.", ".post_layernorm."),
            ] {
                name = name.replace(from, to);
            }
            name
        }
    }
}
