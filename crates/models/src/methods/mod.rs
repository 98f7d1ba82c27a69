//! The methods as a run config describes them: each a config, a tokenizer and first weights.

mod dit;
mod evf;
mod pretrained;
mod risam;

pub use dit::DitMethod;
pub use evf::EvfMethod;
pub use pretrained::pretrained_config;
pub(crate) use pretrained::pretrained_config_from_json;
pub use risam::RisamMethod;

use nn_ops::ConfigError;
use nn_ops::config::quoted;
use pil_ops::Fit;
use run_config::{Init, Method, RunConfig};
use sam_vit::Weights;
use serde_json::Value;

use crate::ModelError;
use crate::source::FoundWeights;
use crate::tokenizer::RunTokenizer;

/// A run config's method. Together with [`with_method`](crate::with_method) this is the one place that tells methods apart: a
/// fourth method is a variant here, an arm there, and an implementation of the trainer's `Segmenter`.
pub enum AnyMethod {
    /// Deep instruction tuning.
    Dit(DitMethod),
    /// EVF-SAM.
    Evf(EvfMethod),
    /// RISAM.
    Risam(RisamMethod),
}

impl AnyMethod {
    /// The method that the config names, with its settings checked.
    ///
    /// # Errors
    /// Settings that contradict each other, with the config's key.
    pub fn new(run_config: &RunConfig, tokenizer: RunTokenizer) -> Result<Self, ModelError> {
        Ok(match run_config.model.method {
            Method::Dit => Self::Dit(DitMethod::new(run_config, tokenizer)?),
            Method::Evf => Self::Evf(EvfMethod::new(run_config, tokenizer)?),
            Method::Risam => Self::Risam(RisamMethod::new(run_config, tokenizer)?),
        })
    }

    /// As [`AnyMethod::new`], without the config's first weights where others take their place.
    ///
    /// # Errors
    /// As there.
    pub fn for_weights(run_config: &RunConfig, tokenizer: RunTokenizer, weights: &FoundWeights) -> Result<Self, ModelError> {
        let mut any = Self::new(run_config, tokenizer)?;
        if !weights.are_initial() {
            match &mut any {
                Self::Dit(method) => method.init = Init::default(),
                Self::Evf(method) => method.init = Init::default(),
                Self::Risam(method) => method.init = Init::default(),
            }
        }
        Ok(any)
    }
}

/// Runs an expression with the method inside of an [`AnyMethod`], whatever its type.
#[macro_export]
macro_rules! with_method {
    ($any:expr, $method:ident => $body:expr) => {
        match $any {
            $crate::methods::AnyMethod::Dit($method) => $body,
            $crate::methods::AnyMethod::Evf($method) => $body,
            $crate::methods::AnyMethod::Risam($method) => $body,
        }
    };
}

/// How the config keeps the matrices of encoders.
fn weights(run_config: &RunConfig) -> Weights {
    if run_config.eval.half_weights { Weights::Half } else { Weights::Single }
}

/// What makes weights a folder that `from_pretrained` reads: the tokenizer's files and `config.json`.
fn folder_files(tokenizer: &RunTokenizer, config: &Value) -> Vec<(String, Vec<u8>)> {
    tokenizer.files().into_iter().chain([("config.json".into(), format!("{config:#}\n").into_bytes())]).collect()
}

/// A model's error with the run config's key and file.
fn config_error(run_config: &RunConfig, table: &str, error: ConfigError) -> ModelError {
    let key = match error.key.as_str() {
        // These follow from other sections.
        "text_tokens" | "words" | "max_tokens" => "text.max_tokens".to_owned(),
        "input_size" => "data.image_size".to_owned(),
        own => format!("{table}.{own}"),
    };
    run_config.value_error(&key, error.found, error.expected).into()
}

/// Fails unless images lie on their canvas as the method's image encoder has them.
fn expect_fit(run_config: &RunConfig, fit: Fit) -> Result<(), ModelError> {
    if run_config.data.fit == fit {
        return Ok(());
    }
    let expected = format!("{}, as this method's image encoder has its images prepared", quoted(&fit));
    Err(run_config.value_error("data.fit", quoted(&run_config.data.fit), expected).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_key_as_the_config_has_it() {
        for (set, key) in [
            ("text.max_tokens=600", "text.max_tokens"),
            ("data.image_size=500", "data.image_size"),
            ("model.dit.dropout=2.0", "model.dit.dropout"),
        ] {
            let run_config = RunConfig::resolve("[model]\nmethod = \"dit\"", None, &[set]).unwrap();
            let tokenizer = RunTokenizer::open(&run_config, ["the red zebra"], None).unwrap();
            let error = AnyMethod::new(&run_config, tokenizer).err().unwrap().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }
}
