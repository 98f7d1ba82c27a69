//! `RisamNet`: RISAM between its encoders and the mask logits.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Bool, Device, Tensor, TensorData};
use nn_ops::precision::to_f32;
use nn_ops::resize::Resize;
use nn_ops::rows::select_rows;
use nn_ops::weights::KeyMap;

use crate::ablations::{ConvInteraction, TransformerInteraction};
use crate::config::RisamConfig;
use crate::enhancement::FeatureEnhancement;
use crate::error::RisamError;
use crate::features::RisamFeatures;
use crate::mask_head::{MaskHead, SamDecoder};
use crate::mutual::{MutualAttention, Pair};
use crate::options::{Interaction, LinguisticPosition};
use crate::positions::sine;

/// What a forward pass puts out, one row per sentence.
#[derive(Debug, Clone)]
pub struct RisamOutput {
    /// Mask logits at four times the grid, [Q, 1, 4h, 4w].
    pub low_res: Tensor<4>,
    /// Mask logits at the network's input size, [Q, 1, H, W], bilinear.
    pub logits: Tensor<4>,
    /// The last block's map of words over regions, [Q, h w, L], where there is one.
    pub attention: Option<Tensor<3>>,
}

/// RISAM without its encoders.
#[derive(Module, Debug)]
pub struct RisamNet {
    /// The method, or what it is compared with.
    pub form: RisamForm,
    #[module(skip)]
    pub(crate) config: RisamConfig,
}

/// The method, or what it is compared with.
#[derive(Module, Debug)]
pub enum RisamForm {
    /// RISAM.
    Fusion(Fusion),
    /// SAM prompted by words (`baseline`, Tab. 11).
    Baseline(Baseline),
}

/// RISAM with the choices of its configuration.
#[derive(Module, Debug)]
pub struct Fusion {
    /// Positions of the words, [L, text width] (`linguistic_position = "learned"`).
    pub linguistic_position: Option<Param<Tensor<2>>>,
    /// Feature Enhancement.
    pub fe: FeatureEnhancement,
    /// How image and words meet.
    pub interaction: InteractionBlocks,
    /// What makes the mask.
    pub decoder: MaskHead,
    #[module(skip)]
    position: LinguisticPosition,
}

/// How image and words meet.
#[derive(Module, Debug)]
pub enum InteractionBlocks {
    /// Mutual-aware attention, and the two forms reduced from it.
    Mutual(Vec<MutualAttention>),
    /// `interaction = "conv"`.
    Conv(ConvInteraction),
    /// `interaction = "te"`.
    Transformer(TransformerInteraction),
}

/// SAM's decoder, prompted by a linear map of the words.
#[derive(Module, Debug)]
pub struct Baseline {
    /// SAM's decoder.
    pub sam: SamDecoder,
    /// Words to prompts.
    pub text_proj: Linear,
}

impl RisamConfig {
    /// A network with fresh weights, without encoders.
    pub fn init_net(&self, device: &Device) -> RisamNet {
        let form = if self.baseline {
            RisamForm::Baseline(Baseline {
                sam: SamDecoder::new(self, device),
                text_proj: LinearConfig::new(self.text_width(), self.sam.prompt_dim()).init(device),
            })
        } else {
            RisamForm::Fusion(Fusion::new(self, device))
        };
        RisamNet { form, config: self.clone() }
    }
}

impl Fusion {
    fn new(config: &RisamConfig, device: &Device) -> Self {
        let learned = config.linguistic_position == LinguisticPosition::Learned;
        let shape = [config.max_tokens(), config.text_width()];
        Self {
            linguistic_position: learned.then(|| Initializer::Normal { mean: 0.0, std: 0.02 }.init(shape, device)),
            fe: FeatureEnhancement::new(config, device),
            interaction: match config.interaction {
                Interaction::Conv => InteractionBlocks::Conv(ConvInteraction::new(config, device)),
                Interaction::Transformer => InteractionBlocks::Transformer(TransformerInteraction::new(config, device)),
                Interaction::Mutual | Interaction::VisionGuided | Interaction::Serial => InteractionBlocks::Mutual(
                    (0..config.interaction_blocks).map(|i| MutualAttention::new(config, i, device)).collect(),
                ),
            },
            decoder: MaskHead::new(config, device),
            position: config.linguistic_position,
        }
    }

    /// Regions and words after each interaction block.
    ///
    /// # Shapes
    /// `map`: [Q, C, h, w]; `text`: [Q, L, text width]; `lengths`: Q numbers from 1 to L, the real words of each row
    pub fn interact(&self, map: Tensor<4>, text: Tensor<3>, lengths: &[usize]) -> Vec<Pair> {
        let padding = padding(lengths, 0, text.dims()[1], &text.device());
        match &self.interaction {
            InteractionBlocks::Conv(conv) => {
                let sentence = end_of_text(&text, lengths);
                vec![conv.forward(map, self.placed(text), sentence)]
            }
            InteractionBlocks::Transformer(transformer) => {
                vec![transformer.forward(flatten(map), self.placed(text), padding)]
            }
            InteractionBlocks::Mutual(blocks) => {
                let (visual, words) = (flatten(map), self.placed(text));
                let mut pairs: Vec<Pair> = Vec::with_capacity(blocks.len());
                for block in blocks {
                    let (visual, words) = match pairs.last() {
                        Some(pair) => (pair.visual.clone(), pair.language.clone()),
                        None => (visual.clone(), words.clone()),
                    };
                    pairs.push(block.forward(visual, words, padding.clone()));
                }
                pairs
            }
        }
    }

    /// Words with their positions, where these are added before the first block.
    pub(crate) fn placed(&self, text: Tensor<3>) -> Tensor<3> {
        let [_, length, width] = text.dims();
        match (&self.linguistic_position, self.position) {
            (Some(table), _) => text + table.val().narrow(0, 0, length).unsqueeze::<3>(),
            (None, LinguisticPosition::Sine) => {
                let places = sine(length, width, &text.device()).cast(text.dtype());
                text + places
            }
            _ => text,
        }
    }
}

impl RisamNet {
    /// What it was built from.
    pub fn config(&self) -> &RisamConfig {
        &self.config
    }

    /// The method itself; none for the baseline.
    pub fn fusion(&self) -> Option<&Fusion> {
        match &self.form {
            RisamForm::Fusion(fusion) => Some(fusion),
            RisamForm::Baseline(_) => None,
        }
    }

    /// From module paths to the names of our checkpoints. There is no published one to follow; SAM's parts have SAM's names.
    pub fn names() -> KeyMap {
        KeyMap::new(&[
            ("^form.Fusion.", ""),
            ("^form.Baseline.sam.", "decoder.Sam."),
            ("^form.Baseline.", ""),
            ("^fe.form.Full.", "fe."),
            ("^fe.form.LastTap.", "fe."),
            ("^fe.form.VitDet.", "fe."),
            ("^interaction.Mutual.", "ma."),
            ("^interaction.Conv.", "ma_conv."),
            ("^interaction.Transformer.", "ma_te."),
            ("^decoder.Own.head.", ""),
            ("^decoder.Own.query", "query"),
            ("^decoder.Own.pe_layer", "prompt_encoder.pe_layer"),
            ("^decoder.Own.blocks.", "decoder."),
            ("^decoder.Vlt.", "vlt."),
            ("^decoder.Sam.no_mask_embed", "prompt_encoder.no_mask_embed"),
            ("^decoder.Sam.pe_layer", "prompt_encoder.pe_layer"),
            ("^decoder.Sam.", ""),
            ("mask_mlp.layers.", "mask_mlp."),
            (".first.", ".0."),
            (".second.", ".2."),
        ])
        .and(sam_vit::facebook_names())
    }

    /// The image's part that no sentence changes: F_v, or SAM's embedding for the baseline.
    ///
    /// # Shapes
    /// output: [B, C, h, w]
    ///
    /// # Errors
    /// Features of another configuration.
    pub fn enhance(&self, features: &RisamFeatures) -> Result<Tensor<4>, RisamError> {
        features.check(&self.config)?;
        match (&self.form, features) {
            (RisamForm::Fusion(fusion), RisamFeatures::Taps(taps)) => Ok(fusion.fe.forward(taps)),
            (RisamForm::Baseline(_), RisamFeatures::Embedding(map)) => Ok(map.clone()),
            (RisamForm::Fusion(_), _) => Err(features.wrong("three taps")),
            (RisamForm::Baseline(_), _) => Err(features.wrong("SAM's embedding, for baseline = true")),
        }
    }

    /// Mask logits of each sentence. An image is enhanced once, whatever the number of its sentences.
    ///
    /// # Shapes
    /// `features`: B images; `image_of`: Q numbers below B, the image of each sentence; `text`: [Q, L, text width], padding
    /// included; `lengths`: the real words of each row
    ///
    /// # Errors
    /// Shapes that do not fit the configuration or each other.
    pub fn forward(
        &self,
        features: &RisamFeatures,
        image_of: &[usize],
        text: Tensor<3>,
        lengths: &[usize],
    ) -> Result<RisamOutput, RisamError> {
        self.check(features.images(), image_of, &text, lengths)?;
        // Kept features come in single precision.
        let map = self.enhance(&features.clone().cast(text.dtype()))?;
        self.forward_enhanced(map, image_of, text, lengths)
    }

    /// As [`RisamNet::forward`], from what [`RisamNet::enhance`] gave.
    ///
    /// # Shapes
    /// `map`: [B, C, h, w]; the rest as in [`RisamNet::forward`]
    ///
    /// # Errors
    /// As [`RisamNet::forward`].
    pub fn forward_enhanced(
        &self,
        map: Tensor<4>,
        image_of: &[usize],
        text: Tensor<3>,
        lengths: &[usize],
    ) -> Result<RisamOutput, RisamError> {
        let [images, _, height, breadth] = map.dims();
        self.check(images, image_of, &text, lengths)?;
        let map = select_rows(map, image_of);
        let (low_res, attention) = match &self.form {
            RisamForm::Baseline(Baseline { sam, text_proj }) => (sam.forward(map, text_proj.forward(text), lengths), None),
            RisamForm::Fusion(fusion) => {
                let pair = fusion.interact(map, text, lengths).pop();
                let pair = pair.ok_or_else(|| nn_ops::ConfigError::new("interaction_blocks", 0, "at least 1"))?;
                let attention = pair.attention.clone();
                (fusion.decoder.forward(pair, lengths, (height, breadth)), attention)
            }
        };
        let stride = self.config.stride();
        // Masks leave in single precision.
        let low_res = to_f32(low_res);
        let logits = Resize::BILINEAR.forward(low_res.clone(), [height * stride, breadth * stride]);
        Ok(RisamOutput { low_res, logits, attention })
    }

    pub(crate) fn check(&self, images: usize, image_of: &[usize], text: &Tensor<3>, lengths: &[usize]) -> Result<(), RisamError> {
        let config = &self.config;
        let wrong = |what, found: &[usize], expected: String| Err(RisamError::Shape { what, found: found.to_vec(), expected });
        let [rows, length, width] = text.dims();
        if width != config.text_width() || rows == 0 {
            return wrong("text features", &[rows, length, width], format!("[Q, L, {}] with Q at least 1", config.text_width()));
        }
        let learned = self.fusion().is_some_and(|fusion| fusion.linguistic_position.is_some());
        if length > config.max_tokens() && learned {
            let expected = format!("at most {} words, the learned positions", config.max_tokens());
            return wrong("text features", &[rows, length, width], expected);
        }
        if lengths.len() != rows || lengths.iter().any(|l| !(1..=length).contains(l)) {
            return wrong("lengths of the texts", lengths, format!("{rows} numbers from 1 to {length}"));
        }
        if image_of.len() != rows || image_of.iter().any(|i| *i >= images) {
            return wrong("image_of", image_of, format!("{rows} numbers below {images}"));
        }
        Ok(())
    }
}

/// The last real token of each row.
///
/// # Shapes
/// [Q, L, C] -> [Q, C]
fn end_of_text(text: &Tensor<3>, lengths: &[usize]) -> Tensor<2> {
    let [rows, length, width] = text.dims();
    let ends: Vec<usize> = lengths.iter().enumerate().map(|(row, &n)| row * length + n.saturating_sub(1)).collect();
    select_rows(text.clone().reshape([rows * length, width]), &ends)
}

/// `true` where a word is padding, behind `before` places that never are.
///
/// # Shapes
/// output: [Q, before + L]
pub(crate) fn padding(lengths: &[usize], before: usize, length: usize, device: &Device) -> Tensor<2, Bool> {
    let total = before + length;
    let flags: Vec<bool> = lengths.iter().flat_map(|&n| (0..total).map(move |place| place >= before + n)).collect();
    Tensor::from_data(TensorData::new(flags, [lengths.len(), total]), device)
}

/// [B, C, h, w] -> [B, h w, C], row-major.
pub(crate) fn flatten(map: Tensor<4>) -> Tensor<3> {
    let [batch, width, height, breadth] = map.dims();
    map.reshape([batch, width, height * breadth]).swap_dims(1, 2)
}

/// Undoes [`flatten`].
pub(crate) fn unflatten(visual: Tensor<3>, (height, breadth): (usize, usize)) -> Tensor<4> {
    let [batch, _, width] = visual.dims();
    visual.swap_dims(1, 2).reshape([batch, width, height, breadth])
}
