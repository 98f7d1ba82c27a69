//! Released checkpoints: names, sizes, loading. Microsoft's naming, that of Hugging Face (old files and new), and timm's.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, WeightsError, load};

use crate::config::SwinConfig;
use crate::error::SwinError;
use crate::model::Swin;
use crate::window::resize_table;

/// What classifiers hold beside the backbone: constants of their input size, their last norm and their head.
const UNUSED: &[&str] =
    &["layers.*.attn.relative_position_index", "layers.*.attn_mask", "norm.weight", "norm.bias", "head.weight", "head.bias"];
/// Norms of the stages' outputs, which classifiers lack.
const NORMS: &[&str] = &["norm0.*", "norm1.*", "norm2.*", "norm3.*", "norm4.*", "norm5.*", "norm6.*", "norm7.*"];
const TABLE: &str = ".attn.relative_position_bias_table";
/// A size beyond this is no Swin Transformer; it keeps products of sizes far from overflow.
const MAX_SIZE: usize = 1 << 16;

impl Swin {
    /// From module paths to Microsoft's names; the norms of stages' outputs are `norm{stage}`, as in published detectors.
    pub fn names() -> KeyMap {
        KeyMap::new(&[("^norms.", "norm")])
    }

    /// Opens a weight file (`.pth`, `.pt`, `.bin`, `.safetensors`, sharded index) of any naming and size. Where it has no
    /// norms of stages' outputs, all stages but the first get fresh ones.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is not exactly a Swin Transformer.
    pub fn from_pretrained(path: impl AsRef<Path>, device: &Device) -> Result<Self, SwinError> {
        let state_dict = StateDict::open_model(path)?;
        Ok(SwinConfig::detect(&state_dict)?.load(&state_dict, device)?.0)
    }
}

impl SwinConfig {
    /// Reads a model's sizes off the shapes of its tensors, in any naming.
    ///
    /// # Errors
    /// A file that is no Swin Transformer or whose shapes contradict each other.
    pub fn detect(state_dict: &StateDict) -> Result<Self, SwinError> {
        let state_dict = &microsoft_names(state_dict.clone())?;
        let [embed_dim, _, patch_size, _] = shape(state_dict, "patch_embed.proj.weight")?;
        let stages = count(state_dict, |stage| format!("layers.{stage}.blocks.0.norm1.weight"));
        let block = |stage: usize, index: usize| format!("layers.{stage}.blocks.{index}");
        let (mut depths, mut heads, mut rows) = (Vec::new(), Vec::new(), 0);
        for stage in 0..stages {
            depths.push(count(state_dict, |index| format!("{}.norm1.weight", block(stage, index))));
            let [table, number] = shape(state_dict, &format!("{}{TABLE}", block(stage, 0)))?;
            rows = table;
            heads.push(number);
        }
        let [hidden, _] = shape(state_dict, "layers.0.blocks.0.mlp.fc1.weight")?;
        let norms: Vec<usize> = (0..stages).filter(|stage| state_dict.shape(&format!("norm{stage}.weight")).is_some()).collect();
        let config = Self {
            patch_size,
            embed_dim,
            depths,
            heads,
            window: rows.isqrt().div_ceil(2),
            mlp_ratio: hidden as f64 / embed_dim as f64,
            output_norms: if norms.is_empty() { (1..stages).collect() } else { norms },
            layer_norm_eps: 1e-5,
        };
        config.validate().map_err(|e| fail(state_dict, format!("its shapes make no Swin Transformer: {e}")))?;
        Ok(config)
    }

    /// A backbone with the weights of `state_dict`, in any naming. Tables of relative positions that were made for another
    /// window are resized bicubically; norms of stages' outputs that the file lacks stay at gain 1 and bias 0.
    ///
    /// # Errors
    /// When any other tensor is missing, superfluous or of another shape.
    pub fn load(&self, state_dict: &StateDict, device: &Device) -> Result<(Swin, LoadReport), SwinError> {
        let state_dict = self.with_tables(microsoft_names(state_dict.clone())?, device)?;
        Ok(load(self.init(device)?, &state_dict, &Swin::names(), &Allow { missing: NORMS, unused: UNUSED })?)
    }

    /// The checkpoint with the tables of this window.
    fn with_tables(&self, mut state_dict: StateDict, device: &Device) -> Result<StateDict, SwinError> {
        let tables: Vec<String> = state_dict.names().filter(|name| name.ends_with(TABLE)).map(str::to_owned).collect();
        let wanted = (2 * self.window - 1).pow(2);
        for name in tables {
            let Some(&[rows, heads]) = state_dict.shape(&name) else { continue };
            if rows == wanted || rows == 0 || rows.isqrt().pow(2) != rows {
                continue;
            }
            let table = Tensor::<2>::from_data(TensorData::new(state_dict.read(&name)?, [rows, heads]), device);
            let values = resize_table(table, self.window).into_data().iter::<f32>().collect();
            state_dict.insert(name, &[wanted, heads], values);
        }
        Ok(state_dict)
    }
}

/// Renames the tensors of Hugging Face and timm to Microsoft's names; a checkpoint that has those already is returned as it
/// is. Hugging Face's queries, keys and values are joined, and its indices dropped.
///
/// # Errors
/// Queries, keys and values that cannot be joined, or two tensors of one name.
pub fn microsoft_names(state_dict: StateDict) -> Result<StateDict, SwinError> {
    if state_dict.names().any(|name| name.contains("embeddings.patch_embeddings.")) {
        return from_hugging_face(state_dict);
    }
    let has = |stage: usize| state_dict.shape(&format!("layers.{stage}.downsample.reduction.weight")).is_some();
    if has(0) || !has(1) {
        return Ok(state_dict);
    }
    // timm merges in front of a stage, Microsoft behind it.
    let renamed = state_dict.rename(|name| {
        let moved = name.strip_prefix("layers.").and_then(|rest| rest.split_once(".downsample."));
        Some(match moved.and_then(|(stage, rest)| Some((stage.parse::<usize>().ok()?.checked_sub(1)?, rest))) {
            Some((stage, rest)) => format!("layers.{stage}.downsample.{rest}"),
            None => name.replace("head.fc.", "head."),
        })
    })?;
    Ok(renamed)
}

fn from_hugging_face(state_dict: StateDict) -> Result<StateDict, SwinError> {
    const RULES: &[(&str, &str)] = &[
        ("encoder.layers.", "layers."),
        ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("embeddings.norm.", "patch_embed.norm."),
        (".layernorm_before.", ".norm1."),
        (".layernorm_after.", ".norm2."),
        (".attention.self.", ".attn."),
        (".attention.output.dense.", ".attn.proj."),
        (".attention.o_proj.", ".attn.proj."),
        (".attention.", ".attn."),
        (".attn.relative_position_bias.", ".attn."),
        (".intermediate.dense.", ".mlp.fc1."),
        (".output.dense.", ".mlp.fc2."),
        (".attn.q_proj.", ".attn.query."),
        (".attn.k_proj.", ".attn.key."),
        (".attn.v_proj.", ".attn.value."),
    ];
    let mut state_dict = state_dict.strip_prefix("swin.")?.rename(|name| {
        if name.ends_with("relative_position_index") {
            return None;
        }
        for (from, to) in [("layernorm.", "norm."), ("classifier.", "head.")] {
            if let Some(rest) = name.strip_prefix(from) {
                return Some(format!("{to}{rest}"));
            }
        }
        // Its stages count from 1.
        let norm = name.strip_prefix("hidden_states_norms.stage").and_then(|rest| rest.split_once('.'));
        if let Some((stage, rest)) = norm.and_then(|(stage, rest)| Some((stage.parse::<usize>().ok()?.checked_sub(1)?, rest))) {
            return Some(format!("norm{stage}.{rest}"));
        }
        Some(RULES.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to)))
    })?;
    let queries: Vec<String> = state_dict.names().filter(|name| name.contains(".attn.query.")).map(str::to_owned).collect();
    for query in queries {
        let parts = ["query", "key", "value"].map(|part| query.replace(".attn.query.", &format!(".attn.{part}.")));
        let (mut values, mut shape) = (Vec::new(), state_dict.shape(&query).unwrap_or_default().to_vec());
        if let Some(rows) = shape.first_mut() {
            *rows *= 3;
        }
        for part in &parts {
            if state_dict.shape(part) != state_dict.shape(&query) {
                let what = format!("is {:?}, and `{query}` is {:?}", state_dict.shape(part), state_dict.shape(&query));
                return Err(WeightsError::Tensor { path: state_dict.path().to_owned(), name: part.clone(), what }.into());
            }
            values.extend(state_dict.read(part)?);
        }
        state_dict = state_dict.rename(|name| (!parts.iter().any(|part| part == name)).then(|| name.to_owned()))?;
        state_dict.insert(query.replace(".attn.query.", ".attn.qkv."), &shape, values);
    }
    Ok(state_dict)
}

fn fail(state_dict: &StateDict, what: String) -> SwinError {
    SwinError::StateDict { path: state_dict.path().to_owned(), what }
}

/// The shape of a tensor, of `N` sizes from 1 to [`MAX_SIZE`].
fn shape<const N: usize>(state_dict: &StateDict, name: &str) -> Result<[usize; N], SwinError> {
    let first = state_dict.names().next().map_or_else(String::new, |n| format!(" (its first key is `{n}`)"));
    let found =
        state_dict.shape(name).ok_or_else(|| fail(state_dict, format!("not a Swin Transformer: `{name}` is missing{first}")))?;
    let sizes = <[usize; N]>::try_from(found).ok().filter(|sizes| sizes.iter().all(|n| (1..=MAX_SIZE).contains(n)));
    sizes.ok_or_else(|| fail(state_dict, format!("`{name}` is {found:?}: must have {N} sizes from 1 to {MAX_SIZE}")))
}

/// How many tensors with the names of 0, 1 .. there are without a gap.
fn count(state_dict: &StateDict, name: impl Fn(usize) -> String) -> usize {
    (0..).take_while(|i| state_dict.shape(&name(*i)).is_some()).count()
}
