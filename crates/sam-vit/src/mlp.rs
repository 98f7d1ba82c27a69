//! MLPs of Segment Anything: [`MlpBlock`] of transformer blocks, [`Mlp`] of the mask decoder's heads.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use nn_ops::activation::Activation;
use nn_ops::linear::mlp;

/// Two linear layers with an activation between them: `MLPBlock` of segment-anything's `common.py`.
#[derive(Module, Debug)]
pub struct MlpBlock {
    /// First layer.
    pub lin1: Linear,
    /// Second layer.
    pub lin2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl MlpBlock {
    /// Layers with fresh weights.
    pub fn new(width: usize, hidden: usize, activation: Activation, device: &Device) -> Self {
        Self {
            lin1: LinearConfig::new(width, hidden).init(device),
            lin2: LinearConfig::new(hidden, width).init(device),
            activation,
        }
    }

    /// # Shapes
    /// [.., C] -> [.., C]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        mlp(&self.lin1, self.activation, &self.lin2, x)
    }
}

/// Linear layers with an activation between them, ReLU in SAM: `MLP` of segment-anything's `mask_decoder.py`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Layers, first to last.
    pub layers: Vec<Linear>,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    /// Layers through the given widths, with ReLU between them.
    pub fn new(widths: &[usize], device: &Device) -> Self {
        let layers = widths.windows(2).map(|w| LinearConfig::new(w[0], w[1]).init(device)).collect();
        Self { layers, activation: Activation::Relu }
    }

    /// The same layers with another activation between them.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// # Shapes
    /// [.., first width] -> [.., last width]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let last = self.layers.len().saturating_sub(1);
        self.layers.iter().enumerate().fold(x, |x, (i, layer)| {
            let x = layer.forward(x);
            if i < last { self.activation.forward(x) } else { x }
        })
    }
}
