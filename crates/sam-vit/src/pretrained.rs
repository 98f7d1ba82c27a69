//! Pretrained SAM weights: sizes, loading and writing under Facebook's and Hugging Face's keys.
//!
//! SAM's weights exist under two namings: `sam_vit_*.pth` of the authors, and the Hugging Face port. Both load into the
//! same modules and can be written back; nothing is renamed or left out silently.

use std::path::Path;

use burn::tensor::Device;
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, WeightsError, export, halve, load_halving};

use crate::config::{ImageEncoderConfig, SamConfig};
use crate::error::SamError;
use crate::sam::{Sam, facebook_names};

/// The Hugging Face port keeps SAM's position frequencies twice; a file may hold either or both.
const TIED: &str = "shared_image_embedding.positional_embedding";
const OWN: &str = "prompt_encoder.shared_embedding.positional_embedding";
/// Constants that early files carry along.
const UNUSED: &[&str] = &["pixel_mean", "pixel_std"];
/// A size beyond this is no SAM; it keeps products of sizes far from overflow.
const MAX_SIZE: usize = 1 << 16;

/// How a weight file calls its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// `sam_vit_b_01ec64.pth` and its siblings.
    Facebook,
    /// `facebook/sam-vit-base` and its siblings.
    HuggingFace,
}

impl Naming {
    /// The naming of a file, by the patch projection's key.
    ///
    /// # Errors
    /// [`SamError::StateDict`] where neither is there.
    pub fn of(state_dict: &StateDict) -> Result<Self, SamError> {
        const PATCH: &str = "image_encoder.patch_embed.proj.weight";
        let all = [Self::Facebook, Self::HuggingFace];
        all.into_iter().find(|n| state_dict.shape(&n.names().official(PATCH)).is_some()).ok_or_else(|| {
            let [ours, theirs] = all.map(|n| n.names().official(PATCH));
            let first = state_dict.names().next().map_or_else(String::new, |n| format!(" (its first key is `{n}`)"));
            let what = format!("not a SAM checkpoint: holds neither `{ours}` nor `{theirs}`{first}");
            SamError::StateDict { path: state_dict.path().to_owned(), what }
        })
    }

    /// From our module paths to this naming.
    pub fn names(self) -> KeyMap {
        match self {
            Self::Facebook => facebook_names(),
            Self::HuggingFace => hugging_face_names(),
        }
    }
}

/// From our module paths to the keys of the Hugging Face port: [`facebook_names`], then the port's own renames in order.
pub fn hugging_face_names() -> KeyMap {
    let heads = ["iou_prediction_head".to_owned()].into_iter().chain((0..4).map(|k| format!("output_hypernetworks_mlps.{k}")));
    let rules: Vec<(String, String)> = heads
        // The first layer gives up its number before the middle one takes it.
        .flat_map(|head| {
            [("0", "proj_in"), ("1", "layers.0"), ("2", "proj_out")]
                .map(|(i, to)| (format!("{head}.layers.{i}."), format!("{head}.{to}.")))
        })
        .collect();
    let rules: Vec<(&str, &str)> = rules.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    facebook_names().then(&rules).then(&[
        ("mask_decoder.output_upscaling.0.", "mask_decoder.upscale_conv1."),
        ("mask_decoder.output_upscaling.1.", "mask_decoder.upscale_layer_norm."),
        ("mask_decoder.output_upscaling.3.", "mask_decoder.upscale_conv2."),
        ("mask_downscaling.0.", "mask_embed.conv1."),
        ("mask_downscaling.1.", "mask_embed.layer_norm1."),
        ("mask_downscaling.3.", "mask_embed.conv2."),
        ("mask_downscaling.4.", "mask_embed.layer_norm2."),
        ("mask_downscaling.6.", "mask_embed.conv3."),
        ("point_embeddings", "point_embed"),
        ("pe_layer.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
        ("image_encoder", "vision_encoder"),
        ("neck.0.", "neck.conv1."),
        ("neck.1.", "neck.layer_norm1."),
        ("neck.2.", "neck.conv2."),
        ("neck.3.", "neck.layer_norm2."),
        ("patch_embed.proj.", "patch_embed.projection."),
        (".norm", ".layer_norm"),
        ("blocks.", "layers."),
    ])
}

impl SamConfig {
    /// Reads a model's sizes off the shapes of its tensors: B, L, H and any other, in either naming.
    ///
    /// The number of the decoder's heads leaves no trace in shapes; it is taken to be the published 8. A windowed block
    /// whose window is as large as the grid counts as global, which is the same thing.
    ///
    /// # Errors
    /// A file that is no SAM or whose shapes contradict each other.
    pub fn detect(state_dict: &StateDict) -> Result<Self, SamError> {
        let shapes = Shapes { state_dict, names: Naming::of(state_dict)?.names() };
        let [embed_dim, channels, patch, patch_x] = shapes.of("image_encoder.patch_embed.proj.weight")?;
        let [_, grid, grid_x, _] = shapes.of("image_encoder.pos_embed")?;
        if patch != patch_x || channels != 3 || grid != grid_x {
            return Err(shapes.fail(format!(
                "patches of {channels} x {patch} x {patch_x} on a grid of {grid} x {grid_x}: must be square, of 3 channels"
            )));
        }
        let depth = shapes.count("image_encoder.blocks.", ".norm1.weight");
        let (mut global_blocks, mut window, mut width) = (Vec::new(), None, 0);
        for block in 0..depth {
            let [rows, columns] = shapes.of(&format!("image_encoder.blocks.{block}.attn.rel_pos_h"))?;
            let side = rows.div_ceil(2);
            if side == grid {
                global_blocks.push(block);
            } else if *window.get_or_insert(side) != side {
                return Err(shapes.fail(format!("block {block} has windows of {side} tokens, an earlier one of {window:?}")));
            }
            if block > 0 && columns != width {
                return Err(shapes.fail(format!("block {block} has heads of {columns}, the one before of {width}")));
            }
            width = columns;
        }
        if width == 0 || !embed_dim.is_multiple_of(width) {
            return Err(shapes
                .fail(format!("{depth} blocks with heads of {width} in tokens of {embed_dim}: the tokens must be whole heads")));
        }
        let [hidden, _] = shapes.of("image_encoder.blocks.0.mlp.lin1.weight")?;
        let standard = ImageEncoderConfig::default();
        let mut image_encoder = ImageEncoderConfig {
            image_size: grid * patch,
            patch_size: patch,
            embed_dim,
            depth,
            heads: embed_dim / width,
            mlp_ratio: hidden as f64 / embed_dim as f64,
            out_channels: shapes.of::<4>("image_encoder.neck.conv1.weight")?[0],
            window_size: window.unwrap_or(standard.window_size),
            global_blocks,
        };
        if image_encoder.mlp_dim() != hidden {
            // The quotient was rounded down; the middle of its interval comes back whole.
            image_encoder.mlp_ratio = (hidden as f64 + 0.5) / embed_dim as f64;
        }
        let config = Self {
            image_encoder,
            mask_in_channels: shapes.of::<4>("prompt_encoder.mask_downscaling.conv2.weight")?[0],
            decoder_depth: shapes.count("mask_decoder.transformer.layers.", ".norm1.weight"),
            decoder_mlp_dim: shapes.of::<2>("mask_decoder.transformer.layers.0.mlp.lin1.weight")?[0],
            ..Self::default()
        };
        config.validate().map_err(|e| shapes.fail(e.to_string()))?;
        Ok(config)
    }
}

/// Shapes of a file by our module paths.
struct Shapes<'a> {
    state_dict: &'a StateDict,
    names: KeyMap,
}

impl Shapes<'_> {
    fn fail(&self, what: String) -> SamError {
        SamError::StateDict { path: self.state_dict.path().to_owned(), what }
    }

    /// The shape of a tensor, of `N` sizes from 1 to [`MAX_SIZE`].
    fn of<const N: usize>(&self, path: &str) -> Result<[usize; N], SamError> {
        let name = self.names.official(path);
        let shape =
            self.state_dict.shape(&name).ok_or_else(|| self.fail(format!("not a SAM checkpoint: `{name}` is missing")))?;
        let sizes = <[usize; N]>::try_from(shape).ok().filter(|s| s.iter().all(|n| (1..=MAX_SIZE).contains(n)));
        sizes.ok_or_else(|| self.fail(format!("`{name}` is {shape:?}: must have {N} sizes from 1 to {MAX_SIZE}")))
    }

    /// How many of `head0tail`, `head1tail` .. there are without a gap.
    fn count(&self, head: &str, tail: &str) -> usize {
        (0..).take_while(|i| self.state_dict.shape(&self.names.official(&format!("{head}{i}{tail}"))).is_some()).count()
    }
}

/// Fills a model from a file in the authors' naming.
///
/// # Errors
/// Any tensor that is missing, of another shape, or not used.
pub fn load_facebook(sam: Sam, state_dict: &StateDict) -> Result<(Sam, LoadReport), SamError> {
    fill(sam, state_dict, Naming::Facebook, Weights::Single)
}

/// Fills a model from a file in the Hugging Face naming. The position frequencies may lie under either of their two
/// names, or under both if they agree.
///
/// # Errors
/// Any tensor that is missing, of another shape, or not used.
pub fn load_hugging_face(sam: Sam, state_dict: &StateDict) -> Result<(Sam, LoadReport), SamError> {
    fill(sam, state_dict, Naming::HuggingFace, Weights::Single)
}

/// Fills a model from a file of either naming.
fn fill(sam: Sam, state_dict: &StateDict, naming: Naming, weights: Weights) -> Result<(Sam, LoadReport), SamError> {
    let halved = |path: &str| weights == Weights::Half && in_blocks(path);
    let allow = Allow { missing: &[], unused: UNUSED };
    let loaded = match naming {
        Naming::Facebook => load_halving(sam, state_dict, &naming.names(), &allow, &halved),
        Naming::HuggingFace => load_halving(sam, &untied(state_dict)?, &naming.names(), &allow, &halved),
    };
    Ok(loaded?)
}

/// Whether a linear layer is one of the encoder's blocks, which hold nearly all of SAM.
fn in_blocks(path: &str) -> bool {
    path.starts_with("image_encoder.blocks.")
}

/// A file with the position frequencies under one name alone.
fn untied(state_dict: &StateDict) -> Result<StateDict, SamError> {
    let untied = if state_dict.shape(TIED).is_none() {
        state_dict.clone()
    } else if state_dict.shape(OWN).is_none() {
        state_dict.clone().rename(|name| Some(if name == TIED { OWN } else { name }.to_owned()))?
    } else {
        if state_dict.shape(TIED) != state_dict.shape(OWN) || state_dict.read(TIED)? != state_dict.read(OWN)? {
            let what = format!("differs from `{OWN}`; the two are one tensor");
            return Err(WeightsError::Tensor { path: state_dict.path().to_owned(), name: TIED.into(), what }.into());
        }
        state_dict.clone().rename(|name| (name != TIED).then(|| name.to_owned()))?
    };
    Ok(untied)
}

/// How a model keeps its weights. It computes in single precision either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weights {
    /// As they are, in f32.
    #[default]
    Single,
    /// The matrices of the encoder's blocks rounded to f16: ViT-H takes 1.3 GB instead of 2.6. For running, not for
    /// training.
    Half,
}

impl Sam {
    /// Opens a weight file (`.pth`, `.pt`, `.bin`, `.safetensors`, sharded index) of either naming and any size.
    ///
    /// Half and double precision become single. The device must be able to hold the whole model.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is not exactly a SAM.
    pub fn from_pretrained(path: impl AsRef<Path>, device: &Device) -> Result<Self, SamError> {
        Self::from_state_dict(&StateDict::open_model(path)?, Weights::Single, device)
    }

    /// As [`Sam::from_pretrained`], from a file that is open already.
    ///
    /// # Errors
    /// As [`Sam::from_pretrained`]; with [`Weights::Half`] also a weight beyond 65504, or a device without f16.
    pub fn from_state_dict(state_dict: &StateDict, weights: Weights, device: &Device) -> Result<Self, SamError> {
        let sam = SamConfig::detect(state_dict)?.init(device);
        Ok(fill(sam, state_dict, Naming::of(state_dict)?, weights)?.0)
    }

    /// The same model with its weights kept as [`Weights::Half`].
    ///
    /// # Errors
    /// A weight beyond 65504, or a device without f16.
    pub fn with_half_weights(self) -> Result<Self, SamError> {
        Ok(halve(self, &facebook_names(), in_blocks)?)
    }

    /// The weights in single precision under official names, ready for [`StateDict::save`]. The Hugging Face naming
    /// gets the position frequencies under both of their names.
    ///
    /// # Errors
    /// Weights that the device could not hand out.
    pub fn export(&self, naming: Naming) -> Result<StateDict, SamError> {
        let mut state_dict = export(self, &naming.names(), "SAM");
        if naming == Naming::HuggingFace
            && let Some(shape) = state_dict.shape(OWN).map(<[usize]>::to_vec)
        {
            let values = state_dict.read(OWN)?;
            state_dict.insert(TIED, &shape, values);
        }
        Ok(state_dict)
    }
}
