//! BEiT-3's multiway transformer layer with sub-LN.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Tensor};
use nn_ops::activation::gelu;
use nn_ops::attention::{multi_head_attention, split_heads};
use nn_ops::linear;
use nn_ops::norm::LayerNorm;
use nn_ops::recompute::Tensors;

use super::config::Beit3Config;
use crate::layers::{norm, spread_linear};

/// Two experts of one kind: `a` for image tokens, `b` for text tokens.
#[derive(Module, Debug)]
pub(super) struct Multiway<M: Module> {
    pub(super) a: M,
    pub(super) b: M,
}

impl<M: Module> Multiway<M> {
    pub(super) fn new(one: impl Fn() -> M) -> Self {
        Self { a: one(), b: one() }
    }
}

/// Image and text tokens of one pass. Each kind goes through its own expert, so they are kept apart and meet only
/// inside attention.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) vision: Option<Tensor<3>>,
    pub(super) text: Option<Tensor<3>>,
}

impl Streams {
    fn map<M: Module>(&self, experts: &Multiway<M>, apply: impl Fn(&M, Tensor<3>) -> Tensor<3>) -> Self {
        Self { vision: self.vision.clone().map(|x| apply(&experts.a, x)), text: self.text.clone().map(|x| apply(&experts.b, x)) }
    }

    pub(super) fn linear(&self, experts: &Multiway<Linear>) -> Self {
        self.map(experts, linear::linear)
    }

    pub(super) fn norm(&self, experts: &Multiway<LayerNorm>) -> Self {
        self.map(experts, |expert, x| expert.forward(x))
    }

    fn plus(self, other: Self) -> Self {
        let add = |a: Option<Tensor<3>>, b: Option<Tensor<3>>| a.zip(b).map(|(a, b)| a + b);
        Self { vision: add(self.vision, other.vision), text: add(self.text, other.text) }
    }
}

impl Tensors<3> for Streams {
    fn each(self, change: &mut dyn FnMut(Tensor<3>) -> Tensor<3>) -> Self {
        Self { vision: self.vision.map(&mut *change), text: self.text.map(change) }
    }
}

/// Which keys are hidden, [Q, 1, 1, S] with `true` where hidden.
#[derive(Debug, Clone, Default)]
pub(super) struct Masks {
    /// Over text tokens.
    pub(super) text: Option<Tensor<4, Bool>>,
    /// Over image and text tokens.
    pub(super) joint: Option<Tensor<4, Bool>>,
}

#[derive(Module, Debug)]
struct SelfAttention {
    q_proj: Multiway<Linear>,
    k_proj: Multiway<Linear>,
    v_proj: Multiway<Linear>,
    out_proj: Multiway<Linear>,
    inner_attn_ln: Multiway<LayerNorm>,
    heads: usize,
}

impl SelfAttention {
    fn attend(&self, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, mask: Option<Tensor<4, Bool>>) -> Tensor<3> {
        multi_head_attention([q, k, v], self.heads, mask)
    }

    fn forward(&self, x: Streams, masks: &Masks, fused: bool) -> Streams {
        let [q, k, v] = [&self.q_proj, &self.k_proj, &self.v_proj].map(|experts| x.linear(experts));
        let heads = match (fused, [&q, &k, &v].map(|s| s.vision.clone().zip(s.text.clone()))) {
            (true, [Some(q), Some(k), Some(v)]) => {
                let split = q.0.dims()[1];
                let [q, k, v] = [q, k, v].map(|(vision, text)| Tensor::cat(vec![vision, text], 1));
                let total = q.dims()[1];
                let joint = self.attend(q, k, v, masks.joint.clone());
                Streams { vision: Some(joint.clone().narrow(1, 0, split)), text: Some(joint.narrow(1, split, total - split)) }
            }
            _ => Streams {
                vision: triple(q.vision, k.vision, v.vision).map(|(q, k, v)| self.attend(q, k, v, None)),
                text: triple(q.text, k.text, v.text).map(|(q, k, v)| self.attend(q, k, v, masks.text.clone())),
            },
        };
        // Sub-LN: the inner norm acts on the joined heads, before the output map.
        heads.norm(&self.inner_attn_ln).linear(&self.out_proj)
    }
}

/// Image tokens in front of text tokens.
fn beside(x: Streams) -> Option<Tensor<3>> {
    Some(Tensor::cat(vec![x.vision?, x.text?], 1))
}

fn triple<T>(a: Option<T>, b: Option<T>, c: Option<T>) -> Option<(T, T, T)> {
    Some((a?, b?, c?))
}

#[derive(Module, Debug)]
struct FeedForward {
    fc1: Linear,
    fc2: Linear,
    ffn_layernorm: LayerNorm,
}

impl FeedForward {
    /// Sub-LN: the norm acts on the hidden vector after GELU, before the second map.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        linear::linear(&self.fc2, self.ffn_layernorm.forward(gelu(linear::linear(&self.fc1, x))))
    }
}

/// One layer.
#[derive(Module, Debug)]
pub(super) struct Layer {
    self_attn: SelfAttention,
    self_attn_layer_norm: Multiway<LayerNorm>,
    ffn: Multiway<FeedForward>,
    final_layer_norm: Multiway<LayerNorm>,
    fused: bool,
}

impl Layer {
    /// Layer `number`, from 1.
    pub(super) fn new(config: &Beit3Config, number: usize, device: &Device) -> Self {
        let dim = config.dim;
        let linear = |from, to| spread_linear(from, to, config.init_std, device);
        let square = || Multiway::new(|| linear(dim, dim));
        let norms = || Multiway::new(|| norm(dim, config.layer_norm_eps, device));
        Self {
            self_attn: SelfAttention {
                q_proj: square(),
                k_proj: square(),
                v_proj: square(),
                out_proj: square(),
                inner_attn_ln: norms(),
                heads: config.heads,
            },
            self_attn_layer_norm: norms(),
            ffn: Multiway::new(|| FeedForward {
                fc1: linear(dim, config.ffn),
                fc2: linear(config.ffn, dim),
                ffn_layernorm: norm(config.ffn, config.layer_norm_eps, device),
            }),
            final_layer_norm: norms(),
            fused: config.fused_layers.as_ref().is_none_or(|layers| layers.contains(&number)),
        }
    }

    /// The joint attention map, [Q, heads, S, S]; absent without image or text. Kinds that do not meet in this layer see
    /// nothing of each other.
    pub(super) fn attention(&self, x: Streams, masks: &Masks) -> Option<Tensor<4>> {
        let (x, inner) = (x.norm(&self.self_attn_layer_norm), &self.self_attn);
        let split = x.vision.as_ref()?.dims()[1];
        let [q, k] = [&inner.q_proj, &inner.k_proj].map(|experts| beside(x.linear(experts)));
        let (q, k) = (split_heads(q?, inner.heads), split_heads(k?, inner.heads));
        let [rows, heads, total, width] = q.dims();
        let mut logits = q.matmul(k.swap_dims(2, 3)) / (width as f64).sqrt();
        if let Some(mask) = &masks.joint {
            logits = logits.mask_fill(mask.clone().expand([rows, heads, total, total]), f32::NEG_INFINITY);
        }
        if self.fused {
            return Some(softmax(logits, 3));
        }
        let apart = |from: usize, to: usize| {
            let block = softmax(logits.clone().narrow(2, from, to - from).narrow(3, from, to - from), 3);
            let none = |count: usize| Tensor::zeros([rows, heads, to - from, count], (&block.device(), block.dtype()));
            Tensor::cat(vec![none(from), block.clone(), none(total - to)], 3)
        };
        Some(Tensor::cat(vec![apart(0, split), apart(split, total)], 2))
    }

    pub(super) fn forward(&self, x: Streams, masks: &Masks) -> Streams {
        let attended = self.self_attn.forward(x.norm(&self.self_attn_layer_norm), masks, self.fused);
        let x = x.plus(attended);
        let wide = x.norm(&self.final_layer_norm).map(&self.ffn, |expert, x| expert.forward(x));
        x.plus(wide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beit3::Beit3;
    use burn::tensor::{Distribution, TensorData};
    use nn_ops::attention::merge_heads;
    use nn_ops::weights::load_formula;

    /// The map is that of the forward pass: values weighted with it give what attention gives.
    #[test]
    fn the_attention_map_is_the_one_that_is_used() {
        let device = Device::flex();
        let config = Beit3Config { fused_layers: Some(vec![1]), ..Beit3Config::tiny(9) };
        let model: Beit3 = load_formula(config.init(&device), "map", &Beit3::names()).0;
        let random = |length| Tensor::<3>::random([2, length, 64], Distribution::Default, &device);
        let x = Streams { vision: Some(random(5)), text: Some(random(3)) };
        let hidden = |flags: [bool; 16]| Tensor::<2, Bool>::from_data(TensorData::new(flags.to_vec(), [2, 8]), &device);
        let mut flags = [false; 16];
        flags[15] = true;
        let joint = hidden(flags);
        let masks =
            Masks { text: Some(joint.clone().narrow(1, 5, 3).reshape([2, 1, 1, 3])), joint: Some(joint.reshape([2, 1, 1, 8])) };
        for layer in &model.encoder_layers()[..2] {
            let map = layer.attention(x.clone(), &masks).unwrap();
            let normed = x.norm(&layer.self_attn_layer_norm);
            let want = layer.self_attn.forward(normed.clone(), &masks, layer.fused);
            let v = split_heads(beside(normed.linear(&layer.self_attn.v_proj)).unwrap(), 4);
            let seen = merge_heads(map.matmul(v));
            let seen = Streams { vision: Some(seen.clone().narrow(1, 0, 5)), text: Some(seen.narrow(1, 5, 3)) };
            let got = seen.norm(&layer.self_attn.inner_attn_ln).linear(&layer.self_attn.out_proj);
            let worst = (beside(got).unwrap() - beside(want).unwrap()).abs().max().into_scalar::<f32>();
            assert!(worst < 1e-5, "fused {}: {worst}", layer.fused);
        }
    }
}
