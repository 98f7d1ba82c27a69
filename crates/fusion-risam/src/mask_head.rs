//! `MaskHead`: regions and words to low-resolution mask logits, by RISAM's own decoder, VLT's head or SAM's decoder.

use std::collections::BTreeMap;

use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::rows::select_rows;
use sam_vit::{MaskDecoder, Output, PositionEmbedding};

use crate::config::RisamConfig;
use crate::decoder::{DecoderBlock, DecoderContext, DecoderState};
use crate::head::{Head, VltHead};
use crate::mutual::Pair;
use crate::net::{padding, unflatten};
use crate::options::{Decoder, LinguisticPosition, VisualPosition};
use crate::positions::sine;

/// What makes the mask.
#[derive(Module, Debug)]
pub enum MaskHead {
    /// The mutual-aware mask decoder, eq. 6 to 9.
    Own(OwnDecoder),
    /// Convolutions on the regions (`vlt_head`).
    Vlt(VltHead),
    /// SAM's decoder (`decoder = "sam"`).
    Sam(SamDecoder),
}

/// The mutual-aware mask decoder (RISAM sec. 3.4).
#[derive(Module, Debug)]
pub struct OwnDecoder {
    /// F_m, the multi-modal query, [1, 1, C].
    pub query: Param<Tensor<3>>,
    /// Blocks.
    pub blocks: Vec<DecoderBlock>,
    /// Upsampling and query MLP.
    pub head: Head,
    /// SAM's positions of regions (`visual_position = "sam_dense"`); fixed.
    pub pe_layer: Option<PositionEmbedding>,
    /// Whether the decoder sees the words.
    language: bool,
    /// Whether words have their positions here.
    positions: bool,
}

/// SAM's own decoder with what it needs of the prompt encoder.
#[derive(Module, Debug)]
pub struct SamDecoder {
    /// What stands for "no mask prompt", [1, C]; fixed.
    pub no_mask_embed: Embedding,
    /// The decoder.
    pub mask_decoder: MaskDecoder,
    /// Positions of regions; fixed.
    pub pe_layer: PositionEmbedding,
}

impl MaskHead {
    pub(crate) fn new(config: &RisamConfig, device: &Device) -> Self {
        match (config.decoder, config.vlt_head) {
            (Decoder::Sam, _) => Self::Sam(SamDecoder::new(config, device)),
            (Decoder::Own, true) => Self::Vlt(VltHead::new(config, device)),
            (Decoder::Own, false) => Self::Own(OwnDecoder::new(config, device)),
        }
    }

    /// # Shapes
    /// `pair`: Q rows on a grid of `grid` = (h, w); `lengths`: the real words of each row; output: [Q, 1, 4h, 4w]
    pub fn forward(&self, pair: Pair, lengths: &[usize], grid: (usize, usize)) -> Tensor<4> {
        match self {
            Self::Own(own) => own.forward(&pair, lengths, grid),
            Self::Vlt(vlt) => vlt.forward(unflatten(pair.visual, grid)),
            Self::Sam(sam) => sam.forward(unflatten(pair.visual, grid), pair.language, lengths),
        }
    }
}

impl OwnDecoder {
    fn new(config: &RisamConfig, device: &Device) -> Self {
        let placed = config.visual_position == VisualPosition::SamDense;
        Self {
            query: Initializer::Normal { mean: 0.0, std: 1.0 }.init([1, 1, config.width], device),
            blocks: (0..config.decoder_blocks).map(|_| DecoderBlock::new(config, device)).collect(),
            head: Head::new(config, device),
            pe_layer: placed.then(|| fixed_positions(config, device)),
            language: config.language_in_decoder,
            positions: config.linguistic_position == LinguisticPosition::Decoder,
        }
    }

    /// The state after the last block: F-bar_lav and, in front of the words, F-hat_m.
    ///
    /// # Shapes
    /// As in [`MaskHead::forward`].
    pub fn decode(&self, pair: &Pair, lengths: &[usize], grid: (usize, usize)) -> DecoderState {
        let (device, kind) = (pair.visual.device(), pair.visual.dtype());
        let [rows, _, width] = pair.visual.dims();
        let length = pair.language.dims()[1];
        let query = self.query.val().expand([rows, 1, width]);
        let tokens = if self.language { Tensor::cat(vec![query, pair.language.clone()], 1) } else { query };
        let context = DecoderContext {
            mask: self.language.then(|| padding(lengths, 1, length, &device).reshape([rows, 1, 1, 1 + length])),
            visual: self.pe_layer.as_ref().map(|pe| crate::net::flatten(pe.dense(grid.0, grid.1)).cast(kind)),
            tokens: (self.language && self.positions)
                .then(|| Tensor::cat(vec![Tensor::zeros([1, 1, width], &device), sine(length, width, &device)], 1).cast(kind)),
        };
        let state = DecoderState { visual: pair.visual.clone(), tokens };
        self.blocks.iter().fold(state, |state, block| block.forward(state, &context))
    }

    fn forward(&self, pair: &Pair, lengths: &[usize], grid: (usize, usize)) -> Tensor<4> {
        let state = self.decode(pair, lengths, grid);
        self.head.forward(unflatten(state.visual, grid), state.tokens.narrow(1, 0, 1).squeeze_dim::<2>(1))
    }
}

impl SamDecoder {
    pub(crate) fn new(config: &RisamConfig, device: &Device) -> Self {
        let mut no_mask_embed = EmbeddingConfig::new(1, config.sam.prompt_dim()).init(device);
        no_mask_embed.weight = no_mask_embed.weight.set_require_grad(false);
        Self { no_mask_embed, mask_decoder: MaskDecoder::new(&config.sam, device), pe_layer: fixed_positions(config, device) }
    }

    /// Mask token 0. The decoder knows no padding, so sentences of one length go through it together.
    ///
    /// # Shapes
    /// `embedding`: [Q, C, h, w]; `tokens`: [Q, L, C]; output: [Q, 1, 4h, 4w]
    pub fn forward(&self, embedding: Tensor<4>, tokens: Tensor<3>, lengths: &[usize]) -> Tensor<4> {
        let [_, width, height, breadth] = embedding.dims();
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, &length) in lengths.iter().enumerate() {
            groups.entry(length).or_default().push(row);
        }
        let positions = self.pe_layer.dense(height, breadth);
        let order: Vec<usize> = groups.values().flatten().copied().collect();
        let masks = groups.iter().map(|(&length, rows)| {
            let sparse = select_rows(tokens.clone(), rows).narrow(1, 0, length);
            let dense = self.no_mask_embed.weight.val().reshape([1, width, 1, 1]);
            let embedding = select_rows(embedding.clone(), rows);
            self.mask_decoder.forward(embedding, positions.clone(), sparse, dense, Output::Single).0
        });
        let masks = Tensor::cat(masks.collect(), 0);
        let mut places = vec![0; order.len()];
        for (place, &row) in order.iter().enumerate() {
            places[row] = place;
        }
        select_rows(masks, &places)
    }
}

/// SAM's position frequencies.
fn fixed_positions(config: &RisamConfig, device: &Device) -> PositionEmbedding {
    let normal = Initializer::Normal { mean: 0.0, std: 1.0 };
    PositionEmbedding {
        positional_encoding_gaussian_matrix: normal.init([2, config.sam.prompt_dim() / 2], device).set_require_grad(false),
    }
}
