//! Parameters by name: which are trained, and their identities.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use super::key_map::{KeyMap, Location};

/// Stops the gradients of every parameter whose official name `keep` refuses. Parameters that are fixed by their model
/// (SAM's position frequencies) stay fixed.
pub fn freeze_unless<M: Module>(module: M, names: &KeyMap, keep: impl Fn(&str) -> bool) -> M {
    struct Freezer<'a, F> {
        at: Location,
        names: &'a KeyMap,
        keep: F,
    }
    impl<F: Fn(&str) -> bool> ModuleMapper for Freezer<'_, F> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.at.enter(name, container_type);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.at.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if (self.keep)(&self.names.official(&self.at.dotted())) { param } else { param.set_require_grad(false) }
        }
    }
    module.map(&mut Freezer { at: Location::default(), names, keep })
}

/// Sees every float parameter of a module with its official name.
pub trait NamedVisitor {
    /// One parameter.
    fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>);
}

/// Leads `visitor` through a module, in the module's own order.
pub fn visit_named<M: Module, V: NamedVisitor>(module: &M, names: &KeyMap, visitor: &mut V) {
    struct Guide<'a, V> {
        at: Location,
        names: &'a KeyMap,
        visitor: &'a mut V,
    }
    impl<V: NamedVisitor> ModuleVisitor for Guide<'_, V> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.at.enter(name, container_type);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.at.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.visitor.visit(&self.names.official(&self.at.dotted()), param);
        }
    }
    module.visit(&mut Guide { at: Location::default(), names, visitor });
}

/// A parameter's official name, identity and number of elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trained {
    /// Official name.
    pub name: String,
    /// Identity, by which gradients and optimiser states are kept.
    pub id: ParamId,
    /// Number of elements.
    pub elements: usize,
}

/// The parameters of a module that receive gradients, in its own order. Initialises parameters that are not yet.
pub fn trained<M: Module>(module: &M, names: &KeyMap) -> Vec<Trained> {
    struct Lister(Vec<Trained>);
    impl NamedVisitor for Lister {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                let elements = param.lazy_shape().num_elements();
                self.0.push(Trained { name: name.to_owned(), id: param.id, elements });
            }
        }
    }
    let mut lister = Lister(Vec::new());
    visit_named(module, names, &mut lister);
    lister.0
}

/// Gives every float parameter an identity made of its official name, so that checkpoints of equal runs are equal and an
/// optimiser's state finds its parameters in any process.
pub fn name_ids<M: Module>(module: M, names: &KeyMap) -> M {
    struct Namer<'a> {
        at: Location,
        names: &'a KeyMap,
    }
    impl ModuleMapper for Namer<'_> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.at.enter(name, container_type);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.at.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.names.official(&self.at.dotted());
            let hash =
                name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3));
            let (_, value, mapper) = param.consume();
            Param::from_mapped_value(ParamId::from(hash), value, mapper)
        }
    }
    module.map(&mut Namer { at: Location::default(), names })
}
