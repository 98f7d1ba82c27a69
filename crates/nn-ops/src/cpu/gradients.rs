//! The kernels on a gradient's graph: each operation with its gradients by hand. What is none goes Burn's way.

use std::sync::Arc;

use burn::tensor::{Bool, Tensor};
use cpu_kernels::{AttentionShape, Epilogue, Group, RelativePosition};

use super::graph::{Input, Output, Values, apply, slice};
use crate::attention::softmax;
use crate::linear::Layer;

/// Linear layers one after the other; the output of each that has GELU behind it is kept before it.
///
/// # Shapes
/// [.., first layer's I] -> [.., last layer's O]
pub(crate) fn linear<const D: usize>(x: &Tensor<D>, layers: &[Layer]) -> Option<Tensor<D>> {
    Input::of(x)?;
    if let [first, second] = layers
        && (first.epilogue, second.epilogue) == (Epilogue::Gelu, Epilogue::None)
        && let (Some(first_bias), Some(second_bias)) = (&first.bias, &second.bias)
    {
        return mlp(x, [&first.weight, &second.weight], [first_bias, second_bias]);
    }
    layers.iter().try_fold(x.clone(), |x, Layer { weight, bias, epilogue }| {
        let y = layer(&x, weight, bias.as_ref())?;
        Some(match *epilogue {
            Epilogue::None => y,
            Epilogue::Gelu => gelu(&y)?,
            Epilogue::Softmax(run) => {
                let shape = y.dims();
                let (columns, all) = (shape[D - 1], shape.iter().product::<usize>());
                let run = run.min(columns).max(1);
                softmax(y.reshape([all / run, run]), 1).reshape(shape)
            }
        })
    })
}

/// Values through one layer without what follows.
fn forward(x: &[f32], weight: &Values, bias: Option<&Values>, shape: [usize; 2]) -> Option<Vec<f32>> {
    let layer = cpu_kernels::Layer::new(slice(weight), bias.map(slice), shape, Epilogue::None).ok()?;
    cpu_kernels::linear(x, &[layer]).ok()
}

/// Gradients of [`forward`] for input, weight and bias.
fn backward(x: &[f32], weight: &[f32], gradient: &[f32], shape: [usize; 2], wanted: [bool; 3]) -> Option<[Option<Vec<f32>>; 3]> {
    let input = wanted[0].then(|| cpu_kernels::product_transposed(gradient, weight, shape));
    let of_weight = wanted[1].then(|| cpu_kernels::transposed_product(x, gradient, shape));
    let bias = wanted[2].then(|| cpu_kernels::column_sums(gradient, shape[1]));
    Some([input.transpose().ok()?, of_weight.transpose().ok()?, bias.transpose().ok()?])
}

/// `x W + b`.
fn layer<const D: usize>(x: &Tensor<D>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Option<Tensor<D>> {
    let (shape, mut out) = (weight.dims(), x.dims().to_vec());
    if out[D - 1] != shape[0] {
        return None;
    }
    out[D - 1] = shape[1];
    match bias {
        Some(bias) => apply([Input::of(x)?, Input::of(weight)?, Input::of(bias)?], |[x, weight, bias]| {
            let values = forward(slice(&x), &weight, Some(&bias), shape)?;
            let rule = Box::new(move |gradient: &[f32], wanted| backward(slice(&x), slice(&weight), gradient, shape, wanted));
            Some(Output { values, shape: out, rule })
        }),
        None => apply([Input::of(x)?, Input::of(weight)?], |[x, weight]| {
            let values = forward(slice(&x), &weight, None, shape)?;
            let rule = Box::new(move |gradient: &[f32], [of_x, of_weight]: [bool; 2]| {
                let [x, weight, _] = backward(slice(&x), slice(&weight), gradient, shape, [of_x, of_weight, false])?;
                Some([x, weight])
            });
            Some(Output { values, shape: out, rule })
        }),
    }
}

/// `GELU(x W1 + b1) W2 + b2`; GELU is taken again in the backward pass.
fn mlp<const D: usize>(x: &Tensor<D>, weights: [&Tensor<2>; 2], biases: [&Tensor<1>; 2]) -> Option<Tensor<D>> {
    let (shapes, mut out) = (weights.map(Tensor::dims), x.dims().to_vec());
    if out[D - 1] != shapes[0][0] || shapes[0][1] != shapes[1][0] {
        return None;
    }
    out[D - 1] = shapes[1][1];
    let inputs = [Input::of(x)?, Input::of(weights[0])?, Input::of(biases[0])?, Input::of(weights[1])?, Input::of(biases[1])?];
    apply(inputs, |[x, first, first_bias, second, second_bias]| {
        let before = forward(slice(&x), &first, Some(&first_bias), shapes[0])?;
        let mut hidden = before.clone();
        cpu_kernels::gelu(&mut hidden);
        let values = forward(&hidden, &second, Some(&second_bias), shapes[1])?;
        drop(hidden);
        let rule = Box::new(move |gradient: &[f32], wanted: [bool; 5]| {
            let mut hidden = before.clone();
            cpu_kernels::gelu(&mut hidden);
            let below = wanted[..3].contains(&true);
            let [inner, second, second_bias] =
                backward(&hidden, slice(&second), gradient, shapes[1], [below, wanted[3], wanted[4]])?;
            let Some(mut inner) = inner else { return Some([None, None, None, second, second_bias]) };
            cpu_kernels::gelu_backward(&before, &mut inner).ok()?;
            let [x, first, first_bias] =
                backward(slice(&x), slice(&first), &inner, shapes[0], [wanted[0], wanted[1], wanted[2]])?;
            Some([x, first, first_bias, second, second_bias])
        });
        Some(Output { values, shape: out, rule })
    })
}

/// GELU in its erf form.
///
/// # Shapes
/// Any; the output has the input's.
pub(crate) fn gelu<const D: usize>(x: &Tensor<D>) -> Option<Tensor<D>> {
    let shape = x.dims().to_vec();
    apply([Input::of(x)?], |[x]| {
        let mut values = slice(&x).to_vec();
        cpu_kernels::gelu(&mut values);
        let rule = Box::new(move |gradient: &[f32], _| {
            let mut gradient = gradient.to_vec();
            cpu_kernels::gelu_backward(slice(&x), &mut gradient).ok()?;
            Some([Some(gradient)])
        });
        Some(Output { values, shape, rule })
    })
}

/// Layer norm over the last axis.
///
/// # Shapes
/// [.., C] -> [.., C]
pub(crate) fn layer_norm<const D: usize>(x: &Tensor<D>, gain: &Tensor<1>, bias: &Tensor<1>, eps: f64) -> Option<Tensor<D>> {
    let (shape, eps) = (x.dims().to_vec(), eps as f32);
    apply([Input::of(x)?, Input::of(gain)?, Input::of(bias)?], |[x, gain, bias]| {
        let values = cpu_kernels::layer_norm(slice(&x), slice(&gain), slice(&bias), eps).ok()?;
        let rule = Box::new(move |gradient: &[f32], _| {
            let found = cpu_kernels::layer_norm_backward(slice(&x), slice(&gain), eps, gradient).ok()?;
            Some([Some(found.input), Some(found.gain), Some(found.bias)])
        });
        Some(Output { values, shape, rule })
    })
}

/// Multi-head attention, heads side by side in the last axis.
///
/// # Shapes
/// As [`super::attention`].
pub(crate) fn attention(inputs: &[Tensor<3>; 3], heads: usize, mask: Option<&Tensor<4, Bool>>) -> Option<Tensor<3>> {
    if mask.is_some_and(|mask| mask.dims()[1..3] != [1, 1]) {
        return None;
    }
    let ([batch, queries, channels], keys) = (inputs[0].dims(), inputs[1].dims()[1]);
    let [q, k, v] = inputs.each_ref().map(Input::of);
    let sources = [q?, k?, v?];
    let hidden = mask.map(|mask| mask.clone().expand([batch, 1, 1, keys]).into_data().iter::<bool>().collect::<Vec<_>>());
    let shape = AttentionShape { batch, queries, keys, heads, head_dim: channels.checked_div(heads)? };
    apply(sources, |[query, key, value]| {
        let values = cpu_kernels::attention(slice(&query), slice(&key), slice(&value), hidden.as_deref(), shape).ok()?;
        let rule = Box::new(move |gradient: &[f32], _| {
            let (query, key, value) = (slice(&query), slice(&key), slice(&value));
            let found = cpu_kernels::attention_backward(query, key, value, hidden.as_deref(), shape, gradient).ok()?;
            Some(found.map(Some))
        });
        Some(Output { values, shape: vec![batch, queries, channels], rule })
    })
}

/// Multi-head self-attention inside groups of tokens, with decomposed relative position where there are tables.
///
/// # Shapes
/// As [`super::grouped_attention`].
pub(crate) fn grouped_attention(
    qkv: &Tensor<2>,
    padding: &Tensor<1>,
    heads: usize,
    groups: impl FnOnce() -> Vec<Group>,
    tables: impl FnOnce() -> Option<[Tensor<2>; 2]>,
) -> Option<Tensor<2>> {
    let (qkv_in, padding_in) = (Input::of(qkv)?, Input::of(padding)?);
    let [rows, triple] = qkv.dims();
    let (shape, groups) = (vec![rows, triple / 3], Arc::new(groups()));
    let Some(tables) = tables() else {
        return apply([qkv_in, padding_in], |[qkv, padding]| {
            let values = cpu_kernels::grouped_attention(slice(&qkv), slice(&padding), heads, &groups, None).ok()?;
            let rule = Box::new(move |gradient: &[f32], _| {
                let (qkv, padding) = (slice(&qkv), slice(&padding));
                let found = cpu_kernels::grouped_attention_backward(qkv, padding, heads, &groups, None, gradient).ok()?;
                Some([Some(found.qkv), Some(found.padding)])
            });
            Some(Output { values, shape, rule })
        });
    };
    let head_dim = tables[0].dims()[1];
    let inputs = [qkv_in, padding_in, Input::of(&tables[0])?, Input::of(&tables[1])?];
    apply(inputs, |[qkv, padding, by_row, by_column]| {
        let relative = RelativePosition::new(slice(&by_row), slice(&by_column), head_dim).ok()?;
        let values = cpu_kernels::grouped_attention(slice(&qkv), slice(&padding), heads, &groups, Some(&relative)).ok()?;
        let rule = Box::new(move |gradient: &[f32], _| {
            let (qkv, padding) = (slice(&qkv), slice(&padding));
            let found = cpu_kernels::grouped_attention_backward(qkv, padding, heads, &groups, Some(&relative), gradient).ok()?;
            let [rows, columns] = found.tables?;
            Some([Some(found.qkv), Some(found.padding), Some(rows), Some(columns)])
        });
        Some(Output { values, shape, rule })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{merge_heads, split_heads};
    use crate::relative_position::{Grid, relative_attention, windowed_relative_attention};
    use crate::testing::{assert_close, formula};
    use burn::tensor::{Device, Int, TensorData, module};

    /// Gradients of a weighed sum of `f`'s output by its inputs, and the output.
    fn gradients<const N: usize>(
        inputs: [Tensor<2>; N],
        device: &Device,
        f: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    ) -> (Tensor<2>, [Tensor<2>; N]) {
        let inputs = inputs.map(|x| Tensor::from_data(x.into_data(), device).require_grad());
        let y = f(inputs.clone());
        let weights = formula::<2>("weights", y.dims(), device);
        let grads = (y.clone() * weights).sum().backward();
        (y.inner(), inputs.map(|x| x.grad(&grads).unwrap()))
    }

    fn both<const N: usize>(
        inputs: [Tensor<2>; N],
        ours: impl Fn([Tensor<2>; N]) -> Option<Tensor<2>>,
        burns: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    ) {
        if !cpu_kernels::is_vectorized() {
            return;
        }
        let plain = Device::flex().autodiff();
        for device in [plain.clone(), plain.gradient_checkpointing()] {
            let (y, got) = gradients(inputs.clone(), &device, |x| ours(x).unwrap());
            let (want_y, want) = gradients(inputs.clone(), &device, &burns);
            let scale = want_y.clone().abs().max().into_scalar::<f32>();
            assert_close(y, want_y, 1e-5 * scale);
            for (got, want) in got.into_iter().zip(want) {
                let scale = want.clone().abs().max().into_scalar::<f32>();
                assert_close(got, want, 2e-5 * scale);
            }
        }
    }

    fn inputs<const N: usize>(shapes: [[usize; 2]; N]) -> [Tensor<2>; N] {
        let mut number = 0;
        shapes.map(|shape| {
            number += 1;
            formula(&format!("x{number}"), shape, &Device::flex())
        })
    }

    fn erf_gelu(x: Tensor<2>) -> Tensor<2> {
        x.clone() * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5
    }

    #[test]
    fn layers_have_burns_gradients() {
        let open = |weight: Tensor<2>, bias: Tensor<2>, epilogue| Layer { weight, bias: Some(bias.squeeze_dim(0)), epilogue };
        for epilogue in [Epilogue::None, Epilogue::Gelu, Epilogue::Softmax(5)] {
            both(
                inputs([[60, 7], [7, 10], [1, 10]]),
                |[x, w, b]| linear(&x, &[open(w, b, epilogue)]),
                |[x, w, b]| {
                    let y = x.matmul(w) + b;
                    match epilogue {
                        Epilogue::None => y,
                        Epilogue::Gelu => erf_gelu(y),
                        Epilogue::Softmax(_) => softmax(y.reshape([60, 2, 5]), 2).reshape([60, 10]),
                    }
                },
            );
        }
        both(
            inputs([[60, 7], [7, 10], [1, 10], [10, 6], [1, 6]]),
            |[x, w, b, v, c]| linear(&x, &[open(w, b, Epilogue::Gelu), open(v, c, Epilogue::None)]),
            |[x, w, b, v, c]| erf_gelu(x.matmul(w) + b).matmul(v) + c,
        );
        both(
            inputs([[60, 7], [7, 10]]),
            |[x, weight]| linear(&x, &[Layer { weight, bias: None, epilogue: Epilogue::None }]),
            |[x, w]| x.matmul(w),
        );
    }

    #[test]
    fn norms_have_burns_gradients() {
        both(
            inputs([[60, 37], [1, 37], [1, 37]]),
            |[x, g, b]| layer_norm(&x, &g.squeeze_dim(0), &b.squeeze_dim(0), 1e-6),
            |[x, g, b]| module::layer_norm(x, g.squeeze_dim(0), Some(b.squeeze_dim(0)), 1e-6),
        );
    }

    /// Two items of five queries and seven keys, two heads, with keys hidden and without.
    #[test]
    fn attention_has_burns_gradients() {
        for masked in [false, true] {
            let mask = |device: &Device| {
                let hidden: Vec<i64> = (0..14).map(|i| i64::from(i % 4 == 1)).collect();
                masked.then(|| Tensor::<4, Int>::from_data(TensorData::new(hidden, [2, 1, 1, 7]), device).equal_elem(1))
            };
            let open = |[q, k, v]: [Tensor<2>; 3]| [q.reshape([2, 5, 6]), k.reshape([2, 7, 6]), v.reshape([2, 7, 6])];
            both(
                inputs([[10, 6], [14, 6], [14, 6]]),
                |x| Some(attention(&open(x.clone()), 2, mask(&x[0].device()).as_ref())?.reshape([10, 6])),
                |x| {
                    let mask = mask(&x[0].device());
                    let [q, k, v] = open(x).map(|x| split_heads(x, 2));
                    let logits = q.matmul(k.swap_dims(2, 3)) / 3f64.sqrt();
                    let logits = match mask {
                        Some(mask) => logits.mask_fill(mask.expand([2, 2, 5, 7]), -1e9),
                        None => logits,
                    };
                    merge_heads(softmax(logits, 3).matmul(v)).reshape([10, 6])
                },
            );
        }
    }

    /// Text before the grid, windows with padding, tables of the grid's size and of another: Burn's side in half precision would
    /// not do, so its widened vectors are taken on a device of doubles.
    #[test]
    fn relative_attention_has_the_gradients_of_widened_vectors() {
        for rows in [[5, 7], [9, 3]] {
            let shapes = [[28, 24], [rows[0], 4], [rows[1], 4]];
            let whole = |[qkv, h, w]: [Tensor<2>; 3]| {
                let grid = Grid::new(3, 4, 2, &qkv.device());
                relative_attention(qkv.reshape([2, 14, 24]), 2, &grid, [h, w]).reshape([28, 8])
            };
            both(inputs(shapes), |x| Some(whole(x)), |x| in_doubles(x, whole));
            let windows = |[qkv, padding, h, w]: [Tensor<2>; 4]| {
                let grid = Grid::new(3, 3, 0, &qkv.device());
                let qkv = qkv.reshape([2, 5, 4, 24]);
                windowed_relative_attention(qkv, padding.squeeze_dim(0), 2, &grid, [h, w]).reshape([40, 8])
            };
            let shapes = [[40, 24], [1, 24], [rows[0], 4], [rows[1], 4]];
            both(inputs(shapes), |x| Some(windows(x)), |x| in_doubles(x, windows));
        }
    }

    /// Doubles are none of the kernels' business, so `f` goes Burn's way.
    fn in_doubles<const N: usize>(inputs: [Tensor<2>; N], f: impl Fn([Tensor<2>; N]) -> Tensor<2>) -> Tensor<2> {
        use burn::tensor::DType;
        f(inputs.map(|x| x.cast(DType::F64))).cast(DType::F32)
    }
}
