//! Released checkpoints: names, sizes, loading and writing.

use std::path::Path;

use burn::tensor::Device;
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, export, load};
use sam_vit::{SamError, facebook_names};

use crate::config::EfficientSamConfig;
use crate::model::EfficientSam;

/// Constants that a file may carry along.
const UNUSED: &[&str] = &["pixel_mean", "pixel_std"];
/// Width of a head in every released encoder; heads leave no trace in shapes.
const HEAD: usize = 64;
/// A size beyond this is no EfficientSAM; it keeps products of sizes far from overflow.
const MAX_SIZE: usize = 1 << 16;

/// From our module paths to the keys of `efficient_sam_vits.pt`.
pub fn efficient_sam_names() -> KeyMap {
    let heads = ["iou_prediction_head".to_owned()].into_iter().chain((0..4).map(|k| format!("output_hypernetworks_mlps.{k}")));
    let rules: Vec<(String, String)> = heads
        .flat_map(|head| {
            [("0.", "layers.0.0."), ("1.", "layers.1.0."), ("2.", "fc.")]
                .map(|(layer, to)| (format!("{head}.layers.{layer}"), format!("{head}.{to}")))
        })
        .collect();
    let rules: Vec<(&str, &str)> = rules.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    facebook_names().then(&rules).then(&[
        (".mlp.lin1.", ".mlp.layers.0.0."),
        (".mlp.lin2.", ".mlp.fc."),
        (".output_upscaling.0.", ".final_output_upscaling_layers.0.0."),
        (".output_upscaling.1.", ".final_output_upscaling_layers.0.1."),
        (".output_upscaling.3.", ".final_output_upscaling_layers.1.0."),
    ])
}

impl EfficientSamConfig {
    /// Reads a model's sizes off the shapes of its tensors. The input's side leaves no trace and is taken to be the published
    /// 1024; so are heads of 64 channels in the encoder, eight heads in the decoder and six points per query.
    ///
    /// # Errors
    /// A file that is no EfficientSAM or whose shapes contradict each other.
    pub fn detect(state_dict: &StateDict) -> Result<Self, SamError> {
        let [embed_dim, _, patch_size, _] = shape(state_dict, "image_encoder.patch_embed.proj.weight")?;
        let [_, places, _] = shape(state_dict, "image_encoder.pos_embed")?;
        let [hidden, _] = shape(state_dict, "image_encoder.blocks.0.mlp.fc1.weight")?;
        let [out_channels, ..] = shape::<4>(state_dict, "image_encoder.neck.0.weight")?;
        let [decoder_mlp_dim, _] = shape(state_dict, "mask_decoder.transformer.layers.0.mlp.layers.0.0.weight")?;
        let count =
            |head: &str, tail: &str| (0..).take_while(|i| state_dict.shape(&format!("{head}{i}{tail}")).is_some()).count();
        let table_grid = (places - 1).isqrt();
        if table_grid.pow(2) + 1 != places {
            return Err(fail(state_dict, format!("`image_encoder.pos_embed` has {places} rows: must be a square and 1")));
        }
        if !embed_dim.is_multiple_of(HEAD) {
            return Err(fail(state_dict, format!("tokens of {embed_dim} channels: must be whole heads of {HEAD}")));
        }
        let config = Self {
            patch_size,
            table_grid,
            embed_dim,
            depth: count("image_encoder.blocks.", ".norm1.weight"),
            heads: embed_dim / HEAD,
            mlp_ratio: hidden as f64 / embed_dim as f64,
            out_channels,
            decoder_depth: count("mask_decoder.transformer.layers.", ".norm1.weight"),
            decoder_mlp_dim,
            ..Self::default()
        };
        config.validate().map_err(|e| fail(state_dict, e.to_string()))?;
        Ok(config)
    }

    /// A model with the weights of `state_dict`.
    ///
    /// # Errors
    /// Any tensor that is missing, of another shape, or not used.
    pub fn load(&self, state_dict: &StateDict, device: &Device) -> Result<(EfficientSam, LoadReport), SamError> {
        Ok(load(self.init(device)?, state_dict, &efficient_sam_names(), &Allow { missing: &[], unused: UNUSED })?)
    }
}

impl EfficientSam {
    /// Opens a weight file (`.pt`, `.pth`, `.bin`, `.safetensors`, sharded index) of any size; unzip EfficientSAM-S first.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is not exactly an EfficientSAM.
    pub fn from_pretrained(path: impl AsRef<Path>, device: &Device) -> Result<Self, SamError> {
        let state_dict = StateDict::open_model(path)?;
        Ok(EfficientSamConfig::detect(&state_dict)?.load(&state_dict, device)?.0)
    }

    /// The weights under official names, ready for [`StateDict::save`].
    pub fn export(&self) -> StateDict {
        export(self, &efficient_sam_names(), "EfficientSAM")
    }
}

fn fail(state_dict: &StateDict, what: String) -> SamError {
    SamError::StateDict { path: state_dict.path().to_owned(), what }
}

/// The shape of a tensor, of `N` sizes from 1 to [`MAX_SIZE`].
fn shape<const N: usize>(state_dict: &StateDict, name: &str) -> Result<[usize; N], SamError> {
    let first = state_dict.names().next().map_or_else(String::new, |n| format!(" (its first key is `{n}`)"));
    let found = state_dict
        .shape(name)
        .ok_or_else(|| fail(state_dict, format!("not an EfficientSAM checkpoint: `{name}` is missing{first}")))?;
    let sizes = <[usize; N]>::try_from(found).ok().filter(|sizes| sizes.iter().all(|n| (1..=MAX_SIZE).contains(n)));
    sizes.ok_or_else(|| fail(state_dict, format!("`{name}` is {found:?}: must have {N} sizes from 1 to {MAX_SIZE}")))
}
