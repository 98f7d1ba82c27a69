//! Which tensors stopped being numbers: looked for only after a step has failed, so that good steps pay nothing.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use nn_ops::weights::{KeyMap, NamedVisitor, visit_named};
use serde::{Deserialize, Serialize};

/// Tensors with values that are not finite. A bad weight spoils every gradient behind it, so gradients are named only where
/// all weights are finite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotFinite {
    /// Weights or gradients.
    pub kind: Kind,
    /// Official name of the first one's parameter, in the module's order.
    pub first: String,
    /// How many there are.
    pub count: usize,
    /// Of how many.
    pub of: usize,
}

/// What kind of tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A parameter's value.
    Weight,
    /// A parameter's gradient.
    Gradient,
}

impl NotFinite {
    /// In words; nothing found is news as well.
    #[must_use]
    pub fn describe(found: Option<&Self>) -> String {
        match found {
            None => "every weight and gradient by itself is finite: the loss or the sum of squares is not".to_owned(),
            Some(Self { kind, first, count, of }) => {
                let kind = match kind {
                    Kind::Weight => "weights",
                    Kind::Gradient => "gradients",
                };
                format!("{count} of {of} {kind} are not finite, the first is that of {first}")
            }
        }
    }
}

/// The weights, or else the gradients, of `net` that are not finite.
pub fn find<M: Module>(net: &M, grads: &GradientsParams, names: &KeyMap) -> Option<NotFinite> {
    let mut weights = Search { grads: None, found: Vec::new(), seen: 0 };
    visit_named(net, names, &mut weights);
    let mut gradients = Search { grads: Some(grads), found: Vec::new(), seen: 0 };
    if weights.found.is_empty() {
        visit_named(net, names, &mut gradients);
    }
    weights.result(Kind::Weight).or_else(|| gradients.result(Kind::Gradient))
}

struct Search<'a> {
    /// Where gradients are looked at instead of weights.
    grads: Option<&'a GradientsParams>,
    found: Vec<String>,
    seen: usize,
}

impl Search<'_> {
    fn result(self, kind: Kind) -> Option<NotFinite> {
        let (count, of) = (self.found.len(), self.seen);
        self.found.into_iter().next().map(|first| NotFinite { kind, first, count, of })
    }
}

impl NamedVisitor for Search<'_> {
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        let tensor = match self.grads {
            Some(grads) => grads.get::<D>(param.id),
            None => Some(param.val().inner()),
        };
        let Some(tensor) = tensor else { return };
        self.seen += 1;
        // Compared on the host: CUDA kernels are compiled with fast maths, which may take a NaN for a number.
        if tensor.into_data().iter::<f32>().any(|v| !v.is_finite()) {
            self.found.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    fn layers() -> Vec<Linear> {
        let device = Device::flex().autodiff();
        (0..3).map(|_| LinearConfig::new(2, 2).init(&device)).collect()
    }

    fn grads(layers: &[Linear], poisoned: &[usize]) -> GradientsParams {
        let device = Device::flex();
        let mut grads = GradientsParams::new();
        for (i, layer) in layers.iter().enumerate() {
            let value = if poisoned.contains(&i) { f32::INFINITY } else { 1.0 };
            grads.register(layer.weight.id, Tensor::<2>::from_floats([[1.0, value], [0.0, 0.0]], &device));
        }
        grads
    }

    #[test]
    fn the_first_bad_gradient_is_named() {
        let (layers, names) = (layers(), KeyMap::new(&[("1.", "one.")]));
        assert_eq!(find(&layers, &grads(&layers, &[]), &names), None);
        let found = find(&layers, &grads(&layers, &[1, 2]), &names).unwrap();
        assert_eq!(found, NotFinite { kind: Kind::Gradient, first: "one.weight".into(), count: 2, of: 3 });
    }

    #[test]
    fn a_bad_weight_comes_before_gradients() {
        let mut layers = layers();
        let grads = grads(&layers, &[0, 1, 2]);
        let bad = Tensor::<1>::from_floats([0.0, f32::NAN], &Device::flex().autodiff());
        layers[2].bias = Some(Param::from_tensor(bad));
        let found = find(&layers, &grads, &KeyMap::plain()).unwrap();
        assert_eq!(found, NotFinite { kind: Kind::Weight, first: "2.bias".into(), count: 1, of: 6 });
    }
}
