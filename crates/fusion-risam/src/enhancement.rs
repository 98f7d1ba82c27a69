//! Feature Enhancement: three taps of the image encoder become one map (RISAM sec. 3.2, eq. 1 and 2).

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};
use nn_ops::activation::gelu;
use nn_ops::conv::upscale_conv;
use nn_ops::norm::LayerNorm;
use nn_ops::resize::Resize;
use sam_vit::Neck;

use crate::config::RisamConfig;
use crate::options::Enhancement;

/// Epsilon of all batch and layer norms; PyTorch's default, for none is printed.
pub(crate) const EPS: f64 = 1e-5;

/// PyTorch's batch norm: epsilon 1e-5, momentum 0.1. It uses the batch's statistics, and updates its own, where gradients
/// are tracked; call `valid()` on the module to evaluate.
pub(crate) fn batch_norm(channels: usize, device: &Device) -> BatchNorm {
    BatchNormConfig::new(channels).with_epsilon(EPS).with_momentum(0.1).init(device)
}

pub(crate) fn layer_norm(width: usize, device: &Device) -> LayerNorm {
    LayerNorm::new(width, EPS, device)
}

/// The MLP of one tap: two linear layers with a GELU between. "MLP" is all that is printed; two layers give 6M.
#[derive(Module, Debug)]
pub struct TapMlp {
    /// First layer.
    pub first: Linear,
    /// Second layer; absent with `single_linear`.
    pub second: Option<Linear>,
}

impl TapMlp {
    fn new(from: usize, config: &RisamConfig, device: &Device) -> Self {
        let linear = |from| LinearConfig::new(from, config.width).init(device);
        Self { first: linear(from), second: (!config.single_linear).then(|| linear(config.width)) }
    }

    /// # Shapes
    /// [B, h, w, from] -> [B, h, w, C]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.first.forward(x);
        match &self.second {
            Some(second) => second.forward(gelu(x)),
            None => x,
        }
    }
}

/// 3 x 3 convolution, batch norm, GELU. "Convolution layers" leaves their number open: one each gives 6M, two would not.
#[derive(Module, Debug)]
pub struct Cba {
    /// No bias, for the norm has one.
    pub conv: Conv2d,
    /// Norm.
    pub norm: BatchNorm,
}

impl Cba {
    pub(crate) fn new(from: usize, to: usize, device: &Device) -> Self {
        Self { conv: conv3(from, to).with_bias(false).init(device), norm: batch_norm(to, device) }
    }

    /// # Shapes
    /// [B, from, h, w] -> [B, to, h, w]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        gelu(nn_ops::norm::batch_norm(&self.norm, self.conv.forward(x)))
    }
}

pub(crate) fn conv3(from: usize, to: usize) -> Conv2dConfig {
    Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
}

/// The simple feature pyramid of ViTDet on the last tap: twice, once and half the size, each through a neck of 1 x 1 and
/// 3 x 3 convolutions (with ViTDet's norms) and back to the grid bilinearly. The paper names the idea, the wiring is ours.
#[derive(Module, Debug)]
pub struct Pyramid {
    /// x2, to half the channels, as in ViTDet.
    pub up: ConvTranspose2d,
    /// Necks of the large, the middle and the small map.
    pub necks: Vec<Neck>,
}

impl Pyramid {
    fn new(from: usize, to: usize, device: &Device) -> Self {
        let half = from.div_ceil(2);
        Self {
            up: ConvTranspose2dConfig::new([from, half], [2, 2]).with_stride([2, 2]).init(device),
            necks: [half, from, from].map(|from| Neck::new(from, to, device)).into(),
        }
    }

    /// # Shapes
    /// [B, h, w, from] -> three [B, C, h, w]
    fn forward(&self, tap: Tensor<4>) -> [Tensor<4>; 3] {
        let [_, height, width, _] = tap.dims();
        let map = tap.permute([0, 3, 1, 2]);
        let small = max_pool2d(map.clone(), MaxPoolOptions::new([2, 2]));
        let place = |i: usize, map: Tensor<4>| {
            Resize::BILINEAR.forward(self.necks[i].forward(map.permute([0, 2, 3, 1])), [height, width])
        };
        [place(0, upscale_conv(&self.up, map.clone())), place(1, map), place(2, small)]
    }
}

/// Taps of unlike grids (stages of a pyramid) on the grid of the second: bilinear, half-pixel centres, no antialiasing. They
/// are resized first and go through their MLPs second.
///
/// # Shapes
/// three [B, h, w, width of the tap] -> the same on one grid
pub fn align_taps(taps: &[Tensor<4>; 3]) -> [Tensor<4>; 3] {
    let [_, height, width, _] = taps[1].dims();
    taps.clone().map(|tap| {
        let [_, h, w, _] = tap.dims();
        if (h, w) == (height, width) {
            return tap;
        }
        Resize::BILINEAR.forward(tap.permute([0, 3, 1, 2]), [height, width]).permute([0, 2, 3, 1])
    })
}

/// Feature Enhancement.
#[derive(Module, Debug)]
pub struct FeatureEnhancement {
    /// Norms of the taps that are used (`tap_layer_norm`), or none.
    pub tap_norms: Vec<LayerNorm>,
    /// How the taps become one map.
    pub form: EnhancementForm,
}

/// How the taps become one map, with the parameters that it needs; a variant per [`Enhancement`].
#[derive(Module, Debug)]
pub enum EnhancementForm {
    /// Eq. 1 and 2.
    Full(FullEnhancement),
    /// An MLP on the last tap.
    LastTap(LastTap),
    /// A pyramid of the last tap.
    VitDet(PyramidEnhancement),
}

/// Eq. 1 and 2.
#[derive(Module, Debug)]
pub struct FullEnhancement {
    /// F_v1.
    pub mlp1: TapMlp,
    /// F_v2.
    pub mlp2: TapMlp,
    /// What came out of the first step.
    pub mlp3: TapMlp,
    /// F_v3.
    pub mlp4: TapMlp,
    /// First step, eq. 1.
    pub cba1: Cba,
    /// Second step, eq. 2.
    pub cba2: Cba,
}

/// An MLP on the last tap.
#[derive(Module, Debug)]
pub struct LastTap {
    /// F_v3.
    pub mlp4: TapMlp,
}

/// The steps of eq. 1 and 2 on the maps of a pyramid.
#[derive(Module, Debug)]
pub struct PyramidEnhancement {
    /// What came out of the first step.
    pub mlp3: TapMlp,
    /// First step.
    pub cba1: Cba,
    /// Second step.
    pub cba2: Cba,
    /// In place of the three taps.
    pub pyramid: Pyramid,
}

impl FeatureEnhancement {
    pub(crate) fn new(config: &RisamConfig, device: &Device) -> Self {
        let ([one, two, three], to, kind) = (config.tap_widths(), config.width, config.enhancement);
        let mlp = |from| TapMlp::new(from, config, device);
        let cba = || Cba::new(2 * to, to, device);
        let taps = if kind == Enhancement::Full { &[one, two, three][..] } else { &[three] };
        let normed = if config.tap_layer_norm { taps } else { &[] };
        Self {
            tap_norms: normed.iter().map(|width| layer_norm(*width, device)).collect(),
            form: match kind {
                Enhancement::Full => EnhancementForm::Full(FullEnhancement {
                    mlp1: mlp(one),
                    mlp2: mlp(two),
                    mlp3: mlp(to),
                    mlp4: mlp(three),
                    cba1: cba(),
                    cba2: cba(),
                }),
                Enhancement::None => EnhancementForm::LastTap(LastTap { mlp4: mlp(three) }),
                Enhancement::VitDet => EnhancementForm::VitDet(PyramidEnhancement {
                    mlp3: mlp(to),
                    cba1: cba(),
                    cba2: cba(),
                    pyramid: Pyramid::new(three, to, device),
                }),
            },
        }
    }

    /// F_v of F_v1, F_v2 and F_v3, on the grid of F_v2 ([`align_taps`]).
    ///
    /// # Shapes
    /// three [B, h, w, width of the tap] -> [B, C, h, w]
    pub fn forward(&self, taps: &[Tensor<4>; 3]) -> Tensor<4> {
        let taps = align_taps(taps);
        // A single norm belongs to the last tap, the only one used then.
        let tap = |i: usize| match &self.tap_norms[..] {
            [] => taps[i].clone(),
            [last] => last.forward(taps[i].clone()),
            norms => norms[i].forward(taps[i].clone()),
        };
        let mlp = |mlp: &TapMlp, x: Tensor<4>| mlp.forward(x).permute([0, 3, 1, 2]);
        match &self.form {
            EnhancementForm::LastTap(form) => mlp(&form.mlp4, tap(2)),
            EnhancementForm::Full(form) => {
                let maps = [mlp(&form.mlp1, tap(0)), mlp(&form.mlp2, tap(1)), mlp(&form.mlp4, tap(2))];
                two_steps(maps, &form.cba1, &form.mlp3, &form.cba2)
            }
            EnhancementForm::VitDet(form) => two_steps(form.pyramid.forward(tap(2)), &form.cba1, &form.mlp3, &form.cba2),
        }
    }
}

/// Eq. 1, then eq. 2.
///
/// # Shapes
/// three [B, C, h, w] -> [B, C, h, w]
fn two_steps([one, two, three]: [Tensor<4>; 3], cba1: &Cba, mlp3: &TapMlp, cba2: &Cba) -> Tensor<4> {
    let joined = cba1.forward(Tensor::cat(vec![one, two], 1));
    let joined = mlp3.forward(joined.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]);
    cba2.forward(Tensor::cat(vec![joined, three], 1))
}
