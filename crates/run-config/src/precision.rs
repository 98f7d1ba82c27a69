//! In which floating-point type a forward pass computes.

use serde::{Deserialize, Serialize};

/// What a forward pass, and the backward one behind it, computes in; see the trainer's `precision`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Half precision with f32's range; norms, softmax sums and losses stay in single precision.
    Bf16,
}

impl Precision {
    /// The word in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}
