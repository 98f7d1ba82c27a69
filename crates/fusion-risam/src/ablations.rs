//! Ablations of the interaction: convolution (RISAM Tab. 2, #2) and transformer (Tab. 3, #5) in place of mutual-aware
//! attention. The paper (sec. 4.5) gives the ideas; the wiring is ours.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Bool, Device, Tensor};
use nn_ops::activation::gelu;
use nn_ops::norm::LayerNorm;

use crate::config::RisamConfig;
use crate::decoder::MultiHeadAttention;
use crate::enhancement::{Cba, layer_norm};
use crate::mutual::{AttentionMaps, Pair};

/// Layers of the transformer (#5).
const LAYERS: usize = 2;
/// Hidden width of its feed-forward part.
const HIDDEN: usize = 1024;

/// #2: the end-of-text vector, brought to C, tiled over the map and convolved with it twice. Words go through a matrix.
#[derive(Module, Debug)]
pub struct ConvInteraction {
    /// End-of-text vector to C.
    pub pooled: Linear,
    /// Words, no bias, as in mutual-aware attention.
    pub w_l: Linear,
    /// 2C to C.
    pub cba1: Cba,
    /// C to C.
    pub cba2: Cba,
}

impl ConvInteraction {
    pub(crate) fn new(config: &RisamConfig, device: &Device) -> Self {
        let (text, width) = (config.text_width(), config.width);
        Self {
            pooled: LinearConfig::new(text, width).init(device),
            w_l: LinearConfig::new(text, width).with_bias(false).init(device),
            cba1: Cba::new(2 * width, width, device),
            cba2: Cba::new(width, width, device),
        }
    }

    /// # Shapes
    /// `map`: [B, C, h, w]; `words`: [B, L, text width]; `sentence`: [B, text width], the end-of-text vector
    pub fn forward(&self, map: Tensor<4>, words: Tensor<3>, sentence: Tensor<2>) -> Pair {
        let [batch, width, rows, columns] = map.dims();
        let tiled = self.pooled.forward(sentence).reshape([batch, width, 1, 1]).expand([batch, width, rows, columns]);
        let mixed = self.cba2.forward(self.cba1.forward(Tensor::cat(vec![map, tiled], 1)));
        let visual = mixed.reshape([batch, width, rows * columns]).swap_dims(1, 2);
        Pair { visual, language: self.w_l.forward(words), attention: None }
    }
}

/// A layer of [`TransformerInteraction`]: pre-norm with a GELU, as in the vision transformers that ReSTR is made of.
#[derive(Module, Debug)]
pub struct TransformerLayer {
    /// Norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: MultiHeadAttention,
    /// Norm before the feed-forward part.
    pub norm2: LayerNorm,
    /// Its first layer.
    pub fc1: Linear,
    /// Its second layer.
    pub fc2: Linear,
}

/// #5: a transformer over regions and words together, split afterwards.
#[derive(Module, Debug)]
pub struct TransformerInteraction {
    /// Words, no bias.
    pub w_l: Linear,
    /// Layers.
    pub layers: Vec<TransformerLayer>,
}

impl TransformerInteraction {
    pub(crate) fn new(config: &RisamConfig, device: &Device) -> Self {
        let width = config.width;
        let layer = |_| TransformerLayer {
            norm1: layer_norm(width, device),
            attn: MultiHeadAttention::new(width, config.heads, device),
            norm2: layer_norm(width, device),
            fc1: LinearConfig::new(width, HIDDEN).init(device),
            fc2: LinearConfig::new(HIDDEN, width).init(device),
        };
        Self {
            w_l: LinearConfig::new(config.text_width(), width).with_bias(false).init(device),
            layers: (0..LAYERS).map(layer).collect(),
        }
    }

    /// # Shapes
    /// `visual`: [B, L_v, C]; `words`: [B, L, text width]; `padding`: [B, L], `true` where a word is none
    pub fn forward(&self, visual: Tensor<3>, words: Tensor<3>, padding: Tensor<2, Bool>) -> Pair {
        self.run(visual, words, padding, &mut |_, _, _| {})
    }

    /// Who looks at whom in each layer (paper Fig. 6), mean over heads. A region's attention to words and a word's to regions are parts
    /// of rows that sum to 1 over both kinds.
    ///
    /// # Shapes
    /// As in [`TransformerInteraction::forward`]
    pub fn attend(&self, visual: Tensor<3>, words: Tensor<3>, padding: Tensor<2, Bool>) -> Vec<AttentionMaps> {
        let (regions, length) = (visual.dims()[1], words.dims()[1]);
        let mut maps = Vec::new();
        let mut watch = |layer: &TransformerLayer, tokens: Tensor<3>, mask: &Tensor<4, Bool>| {
            maps.push(layer.attn.maps(tokens, mask.clone(), regions, length));
        };
        self.run(visual, words, padding, &mut watch);
        maps
    }

    fn run(
        &self,
        visual: Tensor<3>,
        words: Tensor<3>,
        padding: Tensor<2, Bool>,
        watch: &mut dyn FnMut(&TransformerLayer, Tensor<3>, &Tensor<4, Bool>),
    ) -> Pair {
        let [batch, regions, _] = visual.dims();
        let length = words.dims()[1];
        let never = Tensor::<2, Bool>::from_data(
            burn::tensor::TensorData::new(vec![false; batch * regions], [batch, regions]),
            &padding.device(),
        );
        let mask = Tensor::cat(vec![never, padding], 1).reshape([batch, 1, 1, regions + length]);
        let joint = Tensor::cat(vec![visual, self.w_l.forward(words)], 1);
        let joint = self.layers.iter().fold(joint, |x, layer| {
            let h = layer.norm1.forward(x.clone());
            watch(layer, h.clone(), &mask);
            let x = x + layer.attn.forward(h.clone(), h.clone(), h, Some(mask.clone()));
            let h = layer.norm2.forward(x.clone());
            x + layer.fc2.forward(gelu(layer.fc1.forward(h)))
        });
        let language = joint.clone().narrow(1, regions, length);
        Pair { visual: joint.narrow(1, 0, regions), language, attention: None }
    }
}
