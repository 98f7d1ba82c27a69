//! Pretrained SAM-2 weights: sizes, loading and writing under the released keys.

use std::path::Path;

use burn::tensor::Device;
use nn_ops::weights::{Allow, KeyMap, LoadReport, StateDict, export, halve, load_halving};
use sam_vit::{Weights, facebook_names};

use crate::config::Sam2Config;
use crate::error::Sam2Error;
use crate::hugging_face;
use crate::sam2::Sam2;

/// Where the tensors of a released `.pt` lie.
const TOP_LEVEL: &str = "model";
/// The patch projection, by whose shape a SAM-2 is known.
const PATCH: &str = "image_encoder.trunk.patch_embed.proj.weight";
/// A tensor that the checkpoints of SAM 2.1 alone have.
const ONLY_2_1: &str = "no_obj_embed_spatial";
/// A scale per channel of the memory encoder's blocks, as files call it that went through Hugging Face's `from_pretrained`,
/// which takes a `gamma` for a norm's.
const RENAMED_SCALE: &str = "memory_encoder.fuser.layers.0.weight";

/// How a weight file calls its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// `sam2_hiera_large.pt`, `sam2.1_hiera_large.pt` and their siblings.
    #[default]
    Meta,
    /// The same, but the scales of the memory encoder's blocks are called `weight` instead of `gamma`.
    RenamedScale,
    /// Hugging Face's port: `facebook/sam2-hiera-large` and its siblings.
    HuggingFace,
}

impl Naming {
    /// The naming of a file.
    pub fn of(state_dict: &StateDict) -> Self {
        if state_dict.shape(hugging_face::PATCH).is_some() {
            Self::HuggingFace
        } else if state_dict.shape(RENAMED_SCALE).is_some() {
            Self::RenamedScale
        } else {
            Self::Meta
        }
    }

    /// From our module paths to this naming.
    pub fn names(self) -> KeyMap {
        let names = facebook_names().then(&[
            ("sam_mask_decoder.base.", "sam_mask_decoder."),
            (".mlp.lin1.", ".mlp.layers.0."),
            (".mlp.lin2.", ".mlp.layers.1."),
            ("mask_downsampler.layers.0.conv.", "mask_downsampler.encoder.0."),
            ("mask_downsampler.layers.0.norm.", "mask_downsampler.encoder.1."),
            ("mask_downsampler.layers.1.conv.", "mask_downsampler.encoder.3."),
            ("mask_downsampler.layers.1.norm.", "mask_downsampler.encoder.4."),
            ("mask_downsampler.layers.2.conv.", "mask_downsampler.encoder.6."),
            ("mask_downsampler.layers.2.norm.", "mask_downsampler.encoder.7."),
            ("mask_downsampler.layers.3.conv.", "mask_downsampler.encoder.9."),
            ("mask_downsampler.layers.3.norm.", "mask_downsampler.encoder.10."),
            ("mask_downsampler.out.", "mask_downsampler.encoder.12."),
        ]);
        match self {
            Self::Meta => names,
            Self::HuggingFace => hugging_face::names(names),
            Self::RenamedScale => names
                .then(&[("fuser.layers.0.gamma", "fuser.layers.0.weight"), ("fuser.layers.1.gamma", "fuser.layers.1.weight")]),
        }
    }
}

/// Opens a weight file. The tensors of a `.pt` may lie under the key `model`, as released.
fn open(path: &Path) -> Result<StateDict, Sam2Error> {
    let plain = StateDict::open(path);
    if plain.as_ref().is_ok_and(|c| c.shape(PATCH).or(c.shape(hugging_face::PATCH)).is_some()) {
        return Ok(plain?);
    }
    match StateDict::open_at(path, Some(TOP_LEVEL)) {
        Ok(nested) if nested.shape(PATCH).is_some() => Ok(nested),
        _ => Ok(plain?),
    }
}

impl Sam2Config {
    /// The published size that a file holds, by the width and number of its blocks; heads, windows and global blocks leave no
    /// trace in shapes. Other sizes are built from a [`Sam2Config`] and filled with [`Sam2::load`].
    ///
    /// # Errors
    /// A file that is no SAM-2 of a published size.
    pub fn detect(state_dict: &StateDict) -> Result<Self, Sam2Error> {
        let fail = |what: String| Sam2Error::StateDict { path: state_dict.path().to_owned(), what };
        let port = Naming::of(state_dict) == Naming::HuggingFace;
        let patch = if port { hugging_face::PATCH } else { PATCH };
        let Some(&[width, ..]) = state_dict.shape(patch) else {
            let first = state_dict.names().next().map_or_else(String::new, |n| format!(" (its first key is `{n}`)"));
            return Err(fail(format!("not a SAM-2 checkpoint: `{PATCH}` is missing{first}")));
        };
        let block = |i: usize| {
            let (blocks, norm) = if port { ("vision_encoder.backbone", "layer_norm1") } else { ("image_encoder.trunk", "norm1") };
            state_dict.shape(&format!("{blocks}.blocks.{i}.{norm}.weight"))
        };
        let depth = (0..).take_while(|i| block(*i).is_some()).count();
        let fits = |config: &Self| config.image_encoder.embed_dim == width && config.image_encoder.depth() == depth;
        let known = Self::published().map(|(name, c)| {
            format!("{name} has {} blocks, the first of {}", c.image_encoder.depth(), c.image_encoder.embed_dim)
        });
        let found = Self::published().into_iter().map(|(_, config)| config).find(fits);
        let config = found.ok_or_else(|| {
            let known = known.join("; ");
            fail(format!("{depth} blocks, the first of {width} channels, are of no published size: {known}"))
        })?;
        let only_2_1 = if port { hugging_face::ONLY_2_1 } else { ONLY_2_1 };
        Ok(Self { version_2_1: state_dict.shape(only_2_1).is_some(), ..config })
    }
}

/// Whether a linear layer is one of the encoder's blocks, which hold most of SAM-2.
fn in_blocks(path: &str) -> bool {
    path.starts_with("image_encoder.trunk.blocks.")
}

impl Sam2 {
    /// Opens a weight file (`.pt`, `.pth`, `.bin`, `.safetensors`, sharded index) of a published size, 2.0 or 2.1.
    ///
    /// Half and double precision become single. The device must be able to hold the whole model.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is not exactly a SAM-2.
    pub fn from_pretrained(path: impl AsRef<Path>, device: &Device) -> Result<Self, Sam2Error> {
        Self::from_state_dict(&open(path.as_ref())?, Weights::Single, device)
    }

    /// As [`Sam2::from_pretrained`], from a file that is open already.
    ///
    /// # Errors
    /// As [`Sam2::from_pretrained`]; with [`Weights::Half`] also a weight beyond 65504, or a device without f16.
    pub fn from_state_dict(state_dict: &StateDict, weights: Weights, device: &Device) -> Result<Self, Sam2Error> {
        let sam2 = Sam2Config::detect(state_dict)?.init(device);
        Ok(sam2.fill(state_dict, weights)?.0)
    }

    /// Fills a model of any size from a file in any naming.
    ///
    /// # Errors
    /// Any tensor that is missing, of another shape, or not used.
    pub fn load(self, state_dict: &StateDict) -> Result<(Self, LoadReport), Sam2Error> {
        self.fill(state_dict, Weights::Single)
    }

    fn fill(self, state_dict: &StateDict, weights: Weights) -> Result<(Self, LoadReport), Sam2Error> {
        let halved = |path: &str| weights == Weights::Half && in_blocks(path);
        let naming = Naming::of(state_dict);
        let unpacked = if naming == Naming::HuggingFace { Some(hugging_face::unpacked(state_dict)?) } else { None };
        Ok(load_halving(self, unpacked.as_ref().unwrap_or(state_dict), &naming.names(), &Allow::default(), &halved)?)
    }

    /// The same model with the matrices of the encoder's blocks rounded to f16: half the memory. It computes in single
    /// precision as before.
    ///
    /// # Errors
    /// A weight beyond 65504, or a device without f16.
    pub fn with_half_weights(self) -> Result<Self, Sam2Error> {
        Ok(halve(self, &Naming::Meta.names(), in_blocks)?)
    }

    /// The weights in single precision under official names, ready for [`StateDict::save`].
    ///
    /// # Errors
    /// None in practice.
    pub fn export(&self, naming: Naming) -> Result<StateDict, Sam2Error> {
        let state_dict = export(self, &naming.names(), "SAM-2");
        Ok(if naming == Naming::HuggingFace { hugging_face::packed(state_dict)? } else { state_dict })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn_ops::weights::parameters;

    /// A released `.pt` has its tensors under `model`.
    #[test]
    fn tensors_under_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nested.pt");
        std::fs::write(&path, include_bytes!("../tests/fixtures/nested.pt")).unwrap();
        let file = open(&path).unwrap();
        assert_eq!(file.shape(PATCH), Some(&[2, 3, 1, 1][..]));
        assert_eq!(file.read(PATCH).unwrap(), [0.5, -1.0, 2.0, 4.0, -8.0, 16.0]);
        let error = Sam2Config::detect(&file).unwrap_err().to_string();
        assert!(error.contains("0 blocks, the first of 2 channels") && error.contains("hiera_large has 48"), "{error}");
        assert!(open(&folder.path().join("none.pt")).is_err());
    }

    /// The number of tensors in the released files, and of their parameters without the fixed frequencies.
    #[test]
    fn sizes_of_the_released_files() {
        let device = Device::flex();
        let published = Sam2Config::published().map(|(name, config)| {
            let all = parameters(&config.init(&device), &Naming::Meta.names());
            let count: usize = all.iter().map(|p| p.shape.iter().product::<usize>()).sum();
            (name, all.len(), count - 256)
        });
        assert_eq!((published[0].1, published[0].2), (468, 38_945_986));
        assert_eq!((published[3].1, published[3].2), (900, 224_430_130));
        // As the authors round them.
        let millions = published.map(|(name, _, count)| (name, (count as f64 / 1e5).round() / 10.0));
        assert_eq!(millions, [("hiera_tiny", 38.9), ("hiera_small", 46.0), ("hiera_base_plus", 80.8), ("hiera_large", 224.4)]);
    }
}
