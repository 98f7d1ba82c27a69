//! The door to the CPU kernels: which tensors [`cpu_kernels`] computes, and their way in and out.
//!
//! Kernels are taken for tensors of single precision (outside of a gradient's graph for weights of half precision, too) on Burn's
//! `flex` device, on processors whose vectors they know. Everything else goes to Burn. Each function here gives its inputs
//! back where the kernels cannot take them, so that nothing is computed in between; the numbers are the same to rounding
//! either way. On a graph, [`gradients`] has the backward passes.

#![allow(clippy::result_large_err, reason = "an `Err` is no failure: it gives the inputs back")]

use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use cpu_kernels::{AttentionShape, Weight};
use half::{bf16, f16};

use crate::linear::{Epilogue, Layer};

#[cfg(feature = "flex")]
pub(crate) mod gradients;
#[cfg(not(feature = "flex"))]
#[path = "no_gradients.rs"]
pub(crate) mod gradients;
#[cfg(feature = "flex")]
mod graph;
#[cfg(feature = "flex")]
mod update;
#[cfg(not(feature = "flex"))]
pub(crate) use gradients::{adam, blend, sum_of_squares};
#[cfg(feature = "flex")]
pub(crate) use update::{adam, blend, sum_of_squares};

/// Whether a device is Burn's `flex`, with or without a graph's bookkeeping. Always false without the Cargo feature
/// `flex`, under which alone Burn names that device's type.
#[cfg(feature = "flex")]
pub(crate) fn is_cpu(device: &Device) -> bool {
    use burn_dispatch::DispatchDevice;

    fn is_flex(device: &DispatchDevice) -> bool {
        match device {
            DispatchDevice::Flex(_) => true,
            DispatchDevice::Autodiff(device) => is_flex(device),
            #[allow(unreachable_patterns, reason = "other backends exist only where their features are on")]
            _ => false,
        }
    }
    is_flex(device.as_dispatch())
}

#[cfg(not(feature = "flex"))]
pub(crate) fn is_cpu(_: &Device) -> bool {
    false
}

/// Whether the kernels can read and write a tensor's memory.
pub(crate) fn supports<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_plain_cpu(&x.device())
}

/// As [`supports`], of a matrix that [`linear`] multiplies by: it may be of half precision, too.
pub(crate) fn supports_weight(weight: &Tensor<2>) -> bool {
    matches!(weight.dtype(), DType::F32 | DType::F16 | DType::BF16) && is_plain_cpu(&weight.device())
}

fn is_plain_cpu(device: &Device) -> bool {
    !device.is_autodiff() && is_cpu(device) && cpu_kernels::is_vectorized()
}

/// GELU in its erf form, or the input back.
///
/// # Shapes
/// Any; the output has the input's.
pub(crate) fn gelu<const D: usize>(x: Tensor<D>) -> Result<Tensor<D>, Tensor<D>> {
    if let Some(y) = gradients::gelu(&x) {
        return Ok(y);
    }
    if !supports(&x) {
        return Err(x);
    }
    let device = x.device();
    let mut data = x.into_data();
    let done = data.as_mut_slice::<f32>().map(cpu_kernels::gelu).is_ok();
    let x = Tensor::from_data(data, &device);
    if done { Ok(x) } else { Err(x) }
}

/// Layer norm over the last axis on a gradient's graph, or nothing: Burn's own is as fast outside of it.
///
/// # Shapes
/// [.., C] -> [.., C]
pub(crate) fn layer_norm<const D: usize>(x: &Tensor<D>, gain: &Tensor<1>, bias: &Tensor<1>, eps: f64) -> Option<Tensor<D>> {
    gradients::layer_norm(x, gain, bias, eps)
}

/// Linear layers one after the other, or the inputs back.
///
/// # Shapes
/// [.., first layer's I] -> [.., last layer's O]
pub(crate) fn linear<const D: usize>(x: Tensor<D>, layers: Vec<Layer>) -> Result<Tensor<D>, (Tensor<D>, Vec<Layer>)> {
    if let Some(y) = gradients::linear(&x, &layers) {
        return Ok(y);
    }
    if !supports(&x) || !layers.iter().all(Layer::is_supported) {
        return Err((x, layers));
    }
    let device = x.device();
    let mut shape = x.dims();
    let x = x.into_data();
    let layers: Vec<OpenLayer> = layers.into_iter().map(OpenLayer::new).collect();
    let run = || -> Option<Vec<f32>> {
        let layers = layers.iter().map(OpenLayer::view).collect::<Option<Vec<_>>>()?;
        cpu_kernels::linear(x.as_slice().ok()?, &layers).ok()
    };
    let Some(out) = run() else {
        return Err((Tensor::from_data(x, &device), layers.into_iter().map(|layer| layer.close(&device)).collect()));
    };
    shape[D - 1] = layers.last().map_or(shape[D - 1], |layer| layer.shape[1]);
    Ok(Tensor::from_data(TensorData::new(out, shape), &device))
}

impl Layer {
    fn is_supported(&self) -> bool {
        supports_weight(&self.weight) && self.bias.as_ref().is_none_or(supports)
    }
}

/// A layer's memory.
struct OpenLayer {
    weight: TensorData,
    bias: Option<TensorData>,
    shape: [usize; 2],
    epilogue: Epilogue,
}

impl OpenLayer {
    fn new(layer: Layer) -> Self {
        let Layer { weight, bias, epilogue } = layer;
        Self { shape: weight.dims(), weight: weight.into_data(), bias: bias.map(Tensor::into_data), epilogue }
    }

    /// As the kernels take it, if its sizes fit each other.
    fn view(&self) -> Option<cpu_kernels::Layer<'_>> {
        let weight: Weight<'_> = match self.weight.dtype() {
            DType::F32 => self.weight.as_slice::<f32>().ok()?.into(),
            DType::F16 => self.weight.as_slice::<f16>().ok()?.into(),
            DType::BF16 => self.weight.as_slice::<bf16>().ok()?.into(),
            _ => return None,
        };
        let bias = match &self.bias {
            Some(bias) => Some(bias.as_slice().ok()?),
            None => None,
        };
        cpu_kernels::Layer::new(weight, bias, self.shape, self.epilogue).ok()
    }

    fn close(self, device: &Device) -> Layer {
        let dtype = self.weight.dtype();
        Layer {
            weight: Tensor::from_data(self.weight, (device, dtype)),
            bias: self.bias.map(|bias| Tensor::from_data(bias, device)),
            epilogue: self.epilogue,
        }
    }
}

/// Multi-head attention, heads side by side in the last axis, or the inputs back.
///
/// # Shapes
/// `q`: [B, Sq, C]; `k`, `v`: [B, Sk, C]; `mask`: [B or 1, 1, 1, Sk], `true` for keys that take no part; output: [B, Sq, C]
pub(crate) fn attention(
    inputs: [Tensor<3>; 3],
    heads: usize,
    mask: Option<&Tensor<4, Bool>>,
) -> Result<Tensor<3>, [Tensor<3>; 3]> {
    if let Some(attended) = gradients::attention(&inputs, heads, mask) {
        return Ok(attended);
    }
    let of_keys = mask.is_none_or(|mask| mask.dims()[1..3] == [1, 1]);
    if !of_keys || !inputs.iter().all(supports) {
        return Err(inputs);
    }
    let device = inputs[0].device();
    let ([batch, queries, channels], keys) = (inputs[0].dims(), inputs[1].dims()[1]);
    let hidden = mask.map(|mask| mask.clone().expand([batch, 1, 1, keys]).into_data().iter::<bool>().collect::<Vec<_>>());
    let data = inputs.map(Tensor::into_data);
    let run = || -> Option<Vec<f32>> {
        let [query, key, value] = data.each_ref().map(|data| data.as_slice::<f32>().ok());
        let head_dim = channels.checked_div(heads)?;
        let shape = AttentionShape { batch, queries, keys, heads, head_dim };
        cpu_kernels::attention(query?, key?, value?, hidden.as_deref(), shape).ok()
    };
    match run() {
        Some(out) => Ok(Tensor::from_data(TensorData::new(out, [batch, queries, channels]), &device)),
        None => Err(data.map(|data| Tensor::from_data(data, &device))),
    }
}

/// Multi-head self-attention inside groups of tokens, with decomposed relative position where there are tables, or the
/// projection back.
///
/// # Shapes
/// - `qkv`: [rows, 3 C], ordered (q | k | v) x head x width; `padding`: \[3 C\]
/// - `tables`: [2 height - 1, D] and [2 width - 1, D]
/// - output: [rows, C]
pub(crate) fn grouped_attention(
    qkv: Tensor<2>,
    padding: &Tensor<1>,
    heads: usize,
    groups: impl Fn() -> Vec<cpu_kernels::Group>,
    tables: impl Fn() -> Option<[Tensor<2>; 2]>,
) -> Result<Tensor<2>, Tensor<2>> {
    if let Some(attended) = gradients::grouped_attention(&qkv, padding, heads, &groups, &tables) {
        return Ok(attended);
    }
    if !supports(&qkv) || !supports(padding) {
        return Err(qkv);
    }
    let device = qkv.device();
    let [rows, triple] = qkv.dims();
    let tables = tables().map(|tables| (tables[0].dims()[1], tables.map(Tensor::into_data)));
    let padding = padding.clone().into_data();
    let qkv = qkv.into_data();
    let run = || -> Option<Vec<f32>> {
        let relative = match &tables {
            Some((head_dim, tables)) => {
                let [by_row, by_column] = tables.each_ref().map(|table| table.as_slice::<f32>().ok());
                Some(cpu_kernels::RelativePosition::new(by_row?, by_column?, *head_dim).ok()?)
            }
            None => None,
        };
        let (qkv, padding) = (qkv.as_slice().ok()?, padding.as_slice().ok()?);
        cpu_kernels::grouped_attention(qkv, padding, heads, &groups(), relative.as_ref()).ok()
    };
    match run() {
        Some(out) => Ok(Tensor::from_data(TensorData::new(out, [rows, triple / 3]), &device)),
        None => Err(Tensor::from_data(qkv, &device)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};
    use burn::tensor::activation;

    #[test]
    fn the_cpu_outside_of_gradients_is_supported() {
        let x = |device: &Device| Tensor::<1>::zeros([1], device);
        assert!(is_cpu(&Device::flex()) && is_cpu(&Device::flex().autodiff()));
        assert_eq!(supports(&x(&Device::flex())), cpu_kernels::is_vectorized());
        assert!(!supports(&x(&Device::flex().autodiff())));
        for dtype in [DType::F64, DType::F16, DType::BF16] {
            assert!(!supports(&Tensor::<1>::zeros([1], (&Device::flex(), dtype))));
        }
        let weight = |dtype| Tensor::<2>::zeros([1, 1], (&Device::flex(), dtype));
        let supported = [DType::F32, DType::F16, DType::BF16, DType::F64].map(|dtype| supports_weight(&weight(dtype)));
        assert_eq!(supported, [[cpu_kernels::is_vectorized(); 3].as_slice(), &[false]].concat()[..]);
    }

    /// Half precision in the weights is widened exactly; a shape that does not fit comes back as it was.
    #[test]
    fn layers_pass_the_door_or_come_back() {
        let device = Device::flex();
        if !cpu_kernels::is_vectorized() {
            return;
        }
        let x = formula::<2>("x", [70, 40], &device);
        let layer = |dtype, bias| Layer {
            weight: formula::<2>("w", [40, 45], &device).cast(dtype),
            bias: Some(formula::<1>("b", [bias], &device)),
            epilogue: Epilogue::Gelu,
        };
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let Layer { weight, bias, .. } = layer(dtype, 45);
            let want = activation::gelu(x.clone().matmul(weight.cast(DType::F32)) + bias.unwrap().unsqueeze());
            assert_close(linear(x.clone(), vec![layer(dtype, 45)]).unwrap(), want, 1e-5);
        }
        let (same, layers) = linear(x.clone(), vec![layer(DType::F16, 44)]).unwrap_err();
        assert_close(same, x.clone(), 0.0);
        assert_eq!((layers[0].weight.dtype(), layers[0].weight.dims()), (DType::F16, [40, 45]));
        assert!(linear(x.clone(), vec![layer(DType::F64, 45)]).is_err());
        let cut = [x.clone().unsqueeze::<3>(), x.clone().narrow(1, 0, 30).unsqueeze(), x.clone().unsqueeze()];
        let [_, key, _] = attention(cut, 2, None).unwrap_err();
        assert_eq!(key.dims(), [1, 70, 30]);
        let doubles = x.cast(DType::F64);
        assert_eq!(gelu(doubles).unwrap_err().dtype(), DType::F64);
    }
}
