//! RISAM between its encoders and the mask logits.

use std::collections::BTreeMap;

use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use nn_ops::precision::wide;
use nn_ops::resize::Resize;
use nn_ops::rows::take;
use nn_ops::weights::Names;
use sam_vit::{MaskDecoder, Output, PositionEmbedding};

use crate::alternatives::{ConvInteraction, TransformerInteraction};
use crate::config::RisamConfig;
use crate::decoder::{DecoderBlock, DecoderContext, DecoderState};
use crate::enhancement::FeatureEnhancement;
use crate::error::RisamError;
use crate::head::{Head, VltHead};
use crate::mutual::{MutualAttention, Pair};
use crate::options::{Decoder, Interaction, LinguisticPosition, VisualPosition};
use crate::positions::sine;

/// What the image encoder gives, for B images.
#[derive(Debug, Clone)]
pub struct ImageFeatures {
    /// F_v1, F_v2, F_v3, each [B, h, w, its width]. The grid of F_v2 is that of the regions; the others' may be unlike it.
    pub taps: [Tensor<4>; 3],
    /// SAM's image embedding, [B, 256, h, w]; only `baseline` needs it.
    pub embedding: Option<Tensor<4>>,
}

impl ImageFeatures {
    /// The same in another precision.
    fn cast(self, kind: DType) -> Self {
        Self { taps: self.taps.map(|tap| tap.cast(kind)), embedding: self.embedding.map(|map| map.cast(kind)) }
    }
}

/// What a forward pass puts out.
#[derive(Debug, Clone)]
pub struct RisamOutput {
    /// Mask logits at four times the grid, [Q, 1, 4h, 4w].
    pub low_res: Tensor<4>,
    /// Mask logits at the network's input size, [Q, 1, H, W], bilinear.
    pub logits: Tensor<4>,
    /// The last block's map of words over regions, [Q, h w, L], where there is one.
    pub attention: Option<Tensor<3>>,
}

/// SAM's own decoder, for `decoder = "sam"` and `baseline`.
#[derive(Module, Debug)]
pub struct SamDecoder {
    /// What stands for "no mask prompt", [1, C]; fixed.
    pub no_mask_embed: Embedding,
    /// The decoder.
    pub mask_decoder: MaskDecoder,
    /// Words to prompts, with `baseline` only.
    pub text_proj: Option<Linear>,
}

/// RISAM without its encoders. Parts that a configuration does not use are absent.
#[derive(Module, Debug)]
pub struct RisamNet {
    /// Positions of the words, [L, text width] (`linguistic_position = "learned"`).
    pub linguistic_position: Option<Param<Tensor<2>>>,
    /// Feature Enhancement.
    pub fe: Option<FeatureEnhancement>,
    /// Mutual-aware attention, and the two forms reduced from it.
    pub ma: Vec<MutualAttention>,
    /// `interaction = "conv"`.
    pub ma_conv: Option<ConvInteraction>,
    /// `interaction = "te"`.
    pub ma_te: Option<TransformerInteraction>,
    /// F_m, the multi-modal query, [1, 1, C].
    pub query: Option<Param<Tensor<3>>>,
    /// Decoder blocks.
    pub decoder: Vec<DecoderBlock>,
    /// Upsampling and query perceptron.
    pub head: Option<Head>,
    /// `vlt_head`.
    pub vlt: Option<VltHead>,
    /// SAM's decoder.
    pub sam: Option<SamDecoder>,
    /// SAM's positions of regions; fixed.
    pub pe_layer: Option<PositionEmbedding>,
}

impl RisamConfig {
    /// A network with fresh weights, without encoders.
    pub fn init_net(&self, device: &Device) -> RisamNet {
        let normal = |std| Initializer::Normal { mean: 0.0, std };
        let sam = self.baseline || self.decoder == Decoder::Sam;
        let own = !sam && !self.vlt_head;
        let (ours, kind) = (!self.baseline, self.interaction);
        let mutual = ours && !matches!(kind, Interaction::Conv | Interaction::Transformer);
        let prompt = self.sam.prompt_dim();
        let fixed = |mut embedding: Embedding| {
            embedding.weight = embedding.weight.set_require_grad(false);
            embedding
        };
        RisamNet {
            linguistic_position: (ours && self.linguistic_position == LinguisticPosition::Learned)
                .then(|| normal(0.02).init([self.max_tokens(), self.text_width()], device)),
            fe: ours.then(|| FeatureEnhancement::new(self, device)),
            ma: (0..if mutual { self.interaction_blocks } else { 0 }).map(|i| MutualAttention::new(self, i, device)).collect(),
            ma_conv: (ours && kind == Interaction::Conv).then(|| ConvInteraction::new(self, device)),
            ma_te: (ours && kind == Interaction::Transformer).then(|| TransformerInteraction::new(self, device)),
            query: own.then(|| normal(1.0).init([1, 1, self.width], device)),
            decoder: (0..if own { self.decoder_blocks } else { 0 }).map(|_| DecoderBlock::new(self, device)).collect(),
            head: own.then(|| Head::new(self, device)),
            vlt: (!sam && self.vlt_head).then(|| VltHead::new(self, device)),
            sam: sam.then(|| SamDecoder {
                no_mask_embed: fixed(EmbeddingConfig::new(1, prompt).init(device)),
                mask_decoder: MaskDecoder::new(&self.sam, device),
                text_proj: self.baseline.then(|| LinearConfig::new(self.text_width(), prompt).init(device)),
            }),
            pe_layer: (sam || self.visual_position == VisualPosition::SamDense).then(|| PositionEmbedding {
                positional_encoding_gaussian_matrix: normal(1.0).init([2, prompt / 2], device).set_require_grad(false),
            }),
        }
    }
}

/// From the module paths of [`RisamNet`] to the names of our checkpoints. There is no published one to follow; SAM's parts
/// have SAM's names.
pub fn net_names() -> Names {
    Names::new(&[
        ("^head.", ""),
        ("mask_mlp.layers.", "mask_mlp."),
        (".first.", ".0."),
        (".second.", ".2."),
        ("^sam.no_mask_embed", "prompt_encoder.no_mask_embed"),
        ("^pe_layer", "prompt_encoder.pe_layer"),
        ("^sam.", ""),
    ])
    .and(sam_vit::facebook_names())
}

impl RisamNet {
    /// F_v: the image's part that no sentence changes.
    ///
    /// # Shapes
    /// output: [B, C, h, w]
    pub fn enhance(&self, image: &ImageFeatures) -> Tensor<4> {
        match &self.fe {
            Some(fe) => fe.forward(&image.taps),
            None => image.taps[2].clone().permute([0, 3, 1, 2]),
        }
    }

    /// Regions and words after each interaction block.
    ///
    /// # Shapes
    /// `map`: [Q, C, h, w]; `text`: [Q, L, text width]; `lengths`: Q numbers from 1 to L, the real words of each row
    pub fn interact(&self, config: &RisamConfig, map: Tensor<4>, text: Tensor<3>, lengths: &[usize]) -> Vec<Pair> {
        let device = text.device();
        let length = text.dims()[1];
        let sentence = end_of_text(&text, lengths);
        let words = self.placed(config, text);
        let padding = padding(lengths, 0, length, &device);
        if let Some(conv) = &self.ma_conv {
            return vec![conv.forward(map, words, sentence)];
        }
        let visual = flatten(map);
        if let Some(transformer) = &self.ma_te {
            return vec![transformer.forward(visual, words, padding)];
        }
        let mut pairs: Vec<Pair> = Vec::with_capacity(self.ma.len());
        for block in &self.ma {
            let (visual, words) = match pairs.last() {
                Some(pair) => (pair.visual.clone(), pair.language.clone()),
                None => (visual.clone(), words.clone()),
            };
            pairs.push(block.forward(visual, words, padding.clone()));
        }
        pairs
    }

    /// Words with their positions, where these are added before the first block.
    pub(crate) fn placed(&self, config: &RisamConfig, text: Tensor<3>) -> Tensor<3> {
        let [_, length, width] = text.dims();
        match (&self.linguistic_position, config.linguistic_position) {
            (Some(table), _) => text + table.val().narrow(0, 0, length).unsqueeze::<3>(),
            (None, LinguisticPosition::Sine) => {
                let places = sine(length, width, &text.device()).cast(text.dtype());
                text + places
            }
            _ => text,
        }
    }

    /// The own decoder's state after its last block: F-bar_lav and, in front of the words, F-hat_m.
    ///
    /// # Shapes
    /// `pair`: Q rows on a grid of `grid` = (h, w)
    pub fn decode(&self, config: &RisamConfig, pair: &Pair, lengths: &[usize], grid: (usize, usize)) -> DecoderState {
        let (device, kind) = (pair.visual.device(), pair.visual.dtype());
        let [rows, _, width] = pair.visual.dims();
        let length = pair.language.dims()[1];
        let query = self.query.as_ref().map(|q| q.val().expand([rows, 1, width]));
        let language = config.language_in_decoder.then(|| pair.language.clone());
        let tokens = Tensor::cat(query.into_iter().chain(language).collect(), 1);
        let context = DecoderContext {
            mask: config.language_in_decoder.then(|| padding(lengths, 1, length, &device).reshape([rows, 1, 1, 1 + length])),
            visual: self.pe_layer.as_ref().map(|pe| flatten(pe.dense(grid.0, grid.1)).cast(kind)),
            tokens: (config.language_in_decoder && config.linguistic_position == LinguisticPosition::Decoder)
                .then(|| Tensor::cat(vec![Tensor::zeros([1, 1, width], &device), sine(length, width, &device)], 1).cast(kind)),
        };
        let state = DecoderState { visual: pair.visual.clone(), tokens };
        self.decoder.iter().fold(state, |state, block| block.forward(state, &context))
    }

    /// Mask logits of each sentence.
    ///
    /// An image is enhanced once, whatever the number of its sentences.
    ///
    /// # Shapes
    /// `image`: B images; `image_of`: Q numbers below B, the image of each sentence; `text`: [Q, L, text width], padding
    /// included; `lengths`: the real words of each row
    ///
    /// # Errors
    /// Shapes that do not fit the configuration or each other.
    pub fn forward(
        &self,
        config: &RisamConfig,
        image: &ImageFeatures,
        image_of: &[usize],
        text: Tensor<3>,
        lengths: &[usize],
    ) -> Result<RisamOutput, RisamError> {
        let grid = self.check(config, image, image_of, &text, lengths)?;
        // Kept features come in single precision.
        let image = &image.clone().cast(text.dtype());
        let (low_res, attention) =
            if let (Some(sam), Some(project), Some(embedding)) = (&self.sam, self.text_proj(), &image.embedding) {
                (self.decode_sam(sam, take(embedding.clone(), image_of), project.forward(text), lengths), None)
            } else {
                let map = take(self.enhance(image), image_of);
                let [rows, width, ..] = map.dims();
                let mut pairs = self.interact(config, map.clone(), text, lengths);
                let pair = pairs.pop().unwrap_or_else(|| Pair {
                    visual: flatten(map),
                    language: Tensor::zeros([rows, 0, width], (&image.taps[2].device(), image.taps[2].dtype())),
                    attention: None,
                });
                let low_res = match (&self.sam, &self.vlt, &self.head) {
                    (Some(sam), _, _) => self.decode_sam(sam, unflatten(pair.visual, grid), pair.language, lengths),
                    (_, Some(vlt), _) => vlt.forward(unflatten(pair.visual, grid)),
                    (_, _, Some(head)) => {
                        let state = self.decode(config, &pair, lengths, grid);
                        head.forward(unflatten(state.visual, grid), state.tokens.narrow(1, 0, 1).squeeze_dim::<2>(1))
                    }
                    _ => return Err(RisamError::Config("the network has neither a head nor SAM's decoder".into())),
                };
                (low_res, pair.attention)
            };
        let stride = config.stride();
        // Masks leave in single precision.
        let low_res = wide(low_res);
        let logits = Resize::BILINEAR.forward(low_res.clone(), [grid.0 * stride, grid.1 * stride]);
        Ok(RisamOutput { low_res, logits, attention })
    }

    fn text_proj(&self) -> Option<&Linear> {
        self.sam.as_ref().and_then(|sam| sam.text_proj.as_ref())
    }

    /// SAM's decoder on mask token 0. It knows no padding, so sentences of one length go through it together.
    ///
    /// # Shapes
    /// `embedding`: [Q, C, h, w]; `tokens`: [Q, L, C]; output: [Q, 1, 4h, 4w]
    fn decode_sam(&self, sam: &SamDecoder, embedding: Tensor<4>, tokens: Tensor<3>, lengths: &[usize]) -> Tensor<4> {
        let device = tokens.device();
        let [_, width, height, breadth] = embedding.dims();
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, &length) in lengths.iter().enumerate() {
            groups.entry(length).or_default().push(row);
        }
        let positions = match &self.pe_layer {
            Some(pe) => pe.dense(height, breadth),
            None => Tensor::zeros([1, width, height, breadth], &device),
        };
        let order: Vec<usize> = groups.values().flatten().copied().collect();
        let masks = groups.iter().map(|(&length, rows)| {
            let sparse = take(tokens.clone(), rows).narrow(1, 0, length);
            let dense = sam.no_mask_embed.weight.val().reshape([1, width, 1, 1]);
            sam.mask_decoder.forward(take(embedding.clone(), rows), positions.clone(), sparse, dense, Output::Single).0
        });
        let masks = Tensor::cat(masks.collect(), 0);
        let mut back = vec![0; order.len()];
        for (place, &row) in order.iter().enumerate() {
            back[row] = place;
        }
        take(masks, &back)
    }

    pub(crate) fn check(
        &self,
        config: &RisamConfig,
        image: &ImageFeatures,
        image_of: &[usize],
        text: &Tensor<3>,
        lengths: &[usize],
    ) -> Result<(usize, usize), RisamError> {
        let wrong = |what, found: &[usize], expected: String| Err(RisamError::Shape { what, found: found.to_vec(), expected });
        let [rows, length, width] = text.dims();
        if width != config.text_width() || rows == 0 {
            return wrong("text features", &[rows, length, width], format!("[Q, L, {}] with Q at least 1", config.text_width()));
        }
        if length > config.max_tokens() && self.linguistic_position.is_some() {
            return wrong(
                "text features",
                &[rows, length, width],
                format!("at most {} words, the learned positions", config.max_tokens()),
            );
        }
        if lengths.len() != rows || lengths.iter().any(|l| !(1..=length).contains(l)) {
            return wrong("lengths of the texts", lengths, format!("{rows} numbers from 1 to {length}"));
        }
        let [images, height, breadth, _] = image.taps[1].dims();
        for (tap, channels) in image.taps.iter().zip(config.tap_widths()) {
            let found = tap.dims();
            if found[0] != images || found[3] != channels || found.contains(&0) {
                return wrong("a tap of the image encoder", &found, format!("[{images}, h, w, {channels}]"));
            }
        }
        if image_of.len() != rows || image_of.iter().any(|i| *i >= images) {
            return wrong("images of the sentences", image_of, format!("{rows} numbers below {images}"));
        }
        match &image.embedding {
            None if config.baseline => wrong("image embedding", &[], "one, for baseline = true prompts SAM itself".into()),
            Some(e) if config.baseline && e.dims() != [images, config.sam.prompt_dim(), height, breadth] => {
                wrong("image embedding", &e.dims(), format!("[{images}, {}, {height}, {breadth}]", config.sam.prompt_dim()))
            }
            _ => Ok((height, breadth)),
        }
    }
}

/// The last real token of each row.
///
/// # Shapes
/// [Q, L, C] -> [Q, C]
fn end_of_text(text: &Tensor<3>, lengths: &[usize]) -> Tensor<2> {
    let [rows, length, width] = text.dims();
    let ends: Vec<usize> = lengths.iter().enumerate().map(|(row, &n)| row * length + n.saturating_sub(1)).collect();
    take(text.clone().reshape([rows * length, width]), &ends)
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
fn unflatten(visual: Tensor<3>, (height, breadth): (usize, usize)) -> Tensor<4> {
    let [batch, _, width] = visual.dims();
    visual.swap_dims(1, 2).reshape([batch, width, height, breadth])
}
