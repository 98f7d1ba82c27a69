//! From regions and query to a mask (RISAM sec. 3.4).

use burn::module::Module;
use burn::nn::BatchNorm;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use nn_ops::activation::gelu;
use nn_ops::conv::upscale_conv;
use nn_ops::norm::batch_norm as norm;
use nn_ops::recompute::cut_together;
use nn_ops::resize::Resize;
use sam_vit::Mlp;

use crate::config::RisamConfig;
use crate::enhancement::{batch_norm, conv3};
use crate::options::Upsampling;

/// Two upsamplings of the regions, an MLP on the query, and their dot product. Channels and the three layers of
/// the MLP are SAM's; the paper speaks of "an MLP layer". No bias, no quality head, one mask.
#[derive(Module, Debug)]
pub struct Head {
    /// x2.
    pub up1: ConvTranspose2d,
    /// Norm.
    pub up1_norm: BatchNorm,
    /// x2.
    pub up2: ConvTranspose2d,
    /// Norm.
    pub up2_norm: BatchNorm,
    /// The query to a vector of the last map's width.
    pub mask_mlp: Mlp,
    #[module(skip)]
    activation: Upsampling,
}

impl Head {
    pub(crate) fn new(config: &RisamConfig, device: &Device) -> Self {
        let (width, [first, second]) = (config.width, config.up_channels);
        let up = |from, to| ConvTranspose2dConfig::new([from, to], [2, 2]).with_stride([2, 2]).init(device);
        Self {
            up1: up(width, first),
            up1_norm: batch_norm(first, device),
            up2: up(first, second),
            up2_norm: batch_norm(second, device),
            mask_mlp: Mlp::new(&[width, width, width, second], device),
            activation: config.upsampling,
        }
    }

    /// # Shapes
    /// `map`: [B, C, h, w]; `query`: [B, C]; output: logits [B, 1, 4h, 4w]
    pub fn forward(&self, map: Tensor<4>, query: Tensor<2>) -> Tensor<4> {
        // The query goes past the norms, which may be synchronised between processes.
        let (map, query) = cut_together(map, query);
        let active = |x: Tensor<4>, at: &[Upsampling]| if at.contains(&self.activation) { gelu(x) } else { x };
        let map = norm(&self.up1_norm, upscale_conv(&self.up1, map));
        let map = active(map, &[Upsampling::First, Upsampling::Both]);
        let map = active(norm(&self.up2_norm, upscale_conv(&self.up2, map)), &[Upsampling::Both]);
        let [batch, channels, height, width] = map.dims();
        let query = self.mask_mlp.forward(query).reshape([batch, 1, channels]);
        query.matmul(map.reshape([batch, channels, height * width])).reshape([batch, 1, height, width])
    }
}

/// One stage of [`VltHead`].
#[derive(Module, Debug)]
pub struct ConvStage {
    /// 3 x 3.
    pub conv: Conv2d,
    /// Norm.
    pub norm: BatchNorm,
}

/// The alternative of Tab. 5, #10 ("structure the same as VLT"): three times a 3 x 3 convolution, batch norm and ReLU with
/// bilinear x2 upsampling between, then a 1 x 1 convolution to the logit. Channels halve with each upsampling, so that
/// the largest map costs no more than the first; the paper does not print them.
#[derive(Module, Debug)]
pub struct VltHead {
    /// Stages.
    pub stages: Vec<ConvStage>,
    /// 1 x 1.
    pub last: Conv2d,
}

impl VltHead {
    pub(crate) fn new(config: &RisamConfig, device: &Device) -> Self {
        let width = config.width;
        let stage = |(from, to)| ConvStage { conv: conv3(from, to).with_bias(false).init(device), norm: batch_norm(to, device) };
        Self {
            stages: [(width, width), (width, width / 2), (width / 2, width / 4)].map(stage).into(),
            last: Conv2dConfig::new([width / 4, 1], [1, 1]).init(device),
        }
    }

    /// # Shapes
    /// [B, C, h, w] -> logits [B, 1, 4h, 4w]
    pub fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        let map = self.stages.iter().enumerate().fold(map, |map, (i, stage)| {
            let [_, _, height, width] = map.dims();
            let map = if i == 0 { map } else { Resize::BILINEAR.forward(map, [2 * height, 2 * width]) };
            relu(norm(&stage.norm, stage.conv.forward(map)))
        });
        self.last.forward(map)
    }
}
