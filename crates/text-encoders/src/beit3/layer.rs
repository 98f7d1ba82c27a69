//! The multiway sub-LN block.

use burn::module::Module;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Bool, Device, Tensor};
use nn_ops::activation::gelu;
use nn_ops::attention::{attention, merge_heads, split_heads};

use super::config::Beit3Config;
use crate::layers::{linear, norm};

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
        self.map(experts, |expert, x| expert.forward(x))
    }

    pub(super) fn norm(&self, experts: &Multiway<LayerNorm>) -> Self {
        self.map(experts, |expert, x| expert.forward(x))
    }

    fn plus(self, other: Self) -> Self {
        let add = |a: Option<Tensor<3>>, b: Option<Tensor<3>>| a.zip(b).map(|(a, b)| a + b);
        Self { vision: add(self.vision, other.vision), text: add(self.text, other.text) }
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
        let [q, k, v] = [q, k, v].map(|x| split_heads(x, self.heads));
        merge_heads(attention(q, k, v, mask, None))
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
        self.fc2.forward(self.ffn_layernorm.forward(gelu(self.fc1.forward(x))))
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
        let square = || Multiway::new(|| linear(dim, dim, device));
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
                fc1: linear(dim, config.ffn, device),
                fc2: linear(config.ffn, dim, device),
                ffn_layernorm: norm(config.ffn, config.layer_norm_eps, device),
            }),
            final_layer_norm: norms(),
            fused: config.fused_layers.as_ref().is_none_or(|layers| layers.contains(&number)),
        }
    }

    pub(super) fn forward(&self, x: Streams, masks: &Masks) -> Streams {
        let attended = self.self_attn.forward(x.norm(&self.self_attn_layer_norm), masks, self.fused);
        let x = x.plus(attended);
        let wide = x.norm(&self.final_layer_norm).map(&self.ffn, |expert, x| expert.forward(x));
        x.plus(wide)
    }
}
