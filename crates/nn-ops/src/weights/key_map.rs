//! Key maps: from the path of a parameter in our modules to its key in a state dict.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// Renaming of module paths (`image_encoder.neck.conv1.weight`) into official names (`image_encoder.neck.0.weight`).
///
/// Burn's own differences are handled before the rules: a norm's `gamma` and `beta` are `weight` and `bias`.
/// Rules are (fragment, replacement) pairs, applied in order, each to every occurrence; a fragment that begins with `^`
/// is replaced at the start of the path only.
#[derive(Debug, Clone, Default)]
pub struct KeyMap {
    rules: Vec<(String, String)>,
    prefix: String,
}

impl KeyMap {
    /// Names that equal the module paths.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Names made by `rules`.
    pub fn new(rules: &[(&str, &str)]) -> Self {
        Self::plain().then(rules)
    }

    /// Adds rules after those already there.
    pub fn then(mut self, rules: &[(&str, &str)]) -> Self {
        self.rules.extend(rules.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())));
        self
    }

    /// Puts `prefix` before every name, after the rules.
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = format!("{prefix}{}", self.prefix);
        self
    }

    /// Adds the rules of `other` after those already there; its prefix is not taken.
    pub fn and(mut self, other: KeyMap) -> Self {
        self.rules.extend(other.rules);
        self
    }

    /// The official name of a module path.
    pub fn official(&self, path: &str) -> String {
        let mut name = path.to_owned();
        for (from, to) in &self.rules {
            if let Some(start) = from.strip_prefix('^') {
                if let Some(rest) = name.strip_prefix(start) {
                    name = format!("{to}{rest}");
                }
            } else if name.contains(from.as_str()) {
                name = name.replace(from.as_str(), to);
            }
        }
        format!("{}{name}", self.prefix)
    }
}

/// Where a visitor stands in a module tree.
#[derive(Debug, Default)]
pub(crate) struct Location {
    path: Vec<(String, String)>,
}

impl Location {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        self.path.push((name.to_owned(), container.to_owned()));
    }

    pub(crate) fn exit(&mut self) {
        self.path.pop();
    }

    /// Whether the parameter here is a [`burn::nn::Linear`] weight, which Burn keeps as [in, out].
    pub(crate) fn is_linear_weight(&self) -> bool {
        self.path.last().is_some_and(|(name, container)| name == "weight" && container == "Struct:Linear")
    }

    /// The dotted path with norm parameters called as PyTorch does.
    pub(crate) fn dotted(&self) -> String {
        let mut parts: Vec<&str> = self.path.iter().map(|(name, _)| name.as_str()).collect();
        if let (Some(last), Some((_, container))) = (parts.last_mut(), self.path.last())
            && matches!(container.as_str(), "Struct:LayerNorm" | "Struct:BatchNorm" | "Struct:GroupNorm")
        {
            *last = match *last {
                "gamma" => "weight",
                "beta" => "bias",
                other => other,
            };
        }
        parts.join(".")
    }

    /// Shape in a checkpoint of a parameter whose shape in the module is `dims`.
    pub(crate) fn file_shape(&self, dims: &[usize]) -> Vec<usize> {
        let mut shape = dims.to_vec();
        if self.is_linear_weight() {
            shape.reverse();
        }
        shape
    }
}

/// One parameter of a module, described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Official name.
    pub name: String,
    /// Shape in an official checkpoint (PyTorch's layout).
    pub shape: Vec<usize>,
}

/// Lists the float parameters of a module in its own order, without initialising them.
pub fn parameters<M: Module>(module: &M, names: &KeyMap) -> Vec<Parameter> {
    struct Lister<'a> {
        at: Location,
        names: &'a KeyMap,
        found: Vec<Parameter>,
    }
    impl ModuleVisitor for Lister<'_> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.at.enter(name, container_type);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.at.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let dims: [usize; D] = param.lazy_shape().dims();
            self.found.push(Parameter { name: self.names.official(&self.at.dotted()), shape: self.at.file_shape(&dims) });
        }
    }
    let mut lister = Lister { at: Location::default(), names, found: Vec::new() };
    module.visit(&mut lister);
    lister.found
}
