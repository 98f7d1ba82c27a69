//! Options of `RisamConfig`: one enum per choice of the paper's ablations (RISAM Tables 2 to 7, sec. 4.5) and for what it leaves open.

use serde::{Deserialize, Serialize};

/// Which network sees the image (RISAM Tab. 7). The paper names the two others "ViT-B" and "Swin-B" and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backbone {
    /// SAM's image encoder.
    #[default]
    Sam,
    /// CLIP's image tower, its positions resized to the input's grid.
    Clip,
    /// A Swin Transformer; taps are stages, brought to the grid of the middle one.
    Swin,
}

/// How the taps of the image encoder become one map (RISAM sec. 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enhancement {
    /// An MLP on the last tap only (#1). The paper says no more than "without"; the map must still reach width C.
    None,
    /// Feature Enhancement, eq. 1 and 2.
    #[default]
    #[serde(rename = "fe")]
    Full,
    /// A simple feature pyramid of the last tap in place of the three (#11, after ViTDet).
    VitDet,
}

/// How image and words meet (RISAM sec. 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interaction {
    /// Mutual-aware attention, eq. 3 to 5.
    #[default]
    #[serde(rename = "full")]
    Mutual,
    /// The sentence vector tiled over the map, concatenated and convolved (#2).
    Conv,
    /// A transformer over regions and words (#5, after ReSTR).
    #[serde(rename = "te")]
    Transformer,
    /// Vision-guided attention only (#6, VLT's SDF): words stay as they are.
    #[serde(rename = "sdf")]
    VisionGuided,
    /// Words first, then regions by what they learned (#7, BRINet's serial form).
    #[serde(rename = "bcm")]
    Serial,
}

/// What the attention of words over regions is normalised over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LanguageSoftmax {
    /// Over words: the transpose of the other direction's map, as Fig. 4 draws it ("A and A^T"). A word's weights then sum
    /// to anything up to the number of regions, and the norm behind hides the scale.
    #[default]
    Words,
    /// Over regions, as attention usually is.
    Regions,
}

/// Positions of words. Fig. 3 shows that they exist and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinguisticPosition {
    /// None; CLIP's features carry theirs.
    None,
    /// Sine and cosine, added to the words once before the first interaction: no parameters, so the 6M stay 6M.
    #[default]
    Sine,
    /// A learned table, added at the same place.
    Learned,
    /// Sine and cosine on the queries and keys of the words in every decoder block (eq. 8).
    Decoder,
}

/// Which decoder makes the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoder {
    /// The mutual-aware mask decoder, eq. 6 to 9.
    #[default]
    Own,
    /// SAM's, trained (#3): words are sparse prompts, regions the image embedding.
    Sam,
}

/// Positions of regions in the decoder. Fig. 3 mentions linguistic ones only; convolutions and SAM's features carry these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisualPosition {
    /// None.
    #[default]
    None,
    /// SAM's random Fourier features on queries and keys.
    SamDense,
}

/// Layer norms around the decoder's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    /// None, as printed.
    #[default]
    None,
    /// Before each layer; try it if training diverges.
    Pre,
    /// After each sum.
    Post,
}

/// Activations between the upsamplings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upsampling {
    /// None: the paper lists transposed convolutions and batch norms, and nothing else.
    #[default]
    Plain,
    /// A GELU after the first.
    First,
    /// A GELU after both, as SAM has.
    Both,
}
