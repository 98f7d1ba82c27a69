//! Any method with its weights, ready to be asked.

use burn::tensor::{DType, Device};
use fusion_dit::Dit;
use fusion_evf::EvfSam;
use fusion_risam::Risam;
use pil_ops::Image;
use run_config::{Precision, RunConfig};
use sam_vit::Prediction;

use crate::attention::{self, Attention};
use crate::methods::AnyMethod;
use crate::run_dir::Checkpoint;
use crate::tokenizer::RunTokenizer;
use crate::weights::evaluated_weights;
use crate::{ModelError, precision};

/// A text-prompted segmenter, whatever its method.
pub enum AnyModel {
    /// Deep instruction tuning.
    Dit(Dit),
    /// EVF-SAM.
    Evf(EvfSam),
    /// RISAM.
    Risam(Risam),
}

impl AnyModel {
    /// The config's method with the weights that `checkpoint` is evaluated with, or with those that the config starts from, in the
    /// precision of `eval.precision`.
    ///
    /// # Errors
    /// Settings that contradict each other, weights that do not fit, a precision that the device does not have.
    pub fn open(
        run_config: &RunConfig,
        tokenizer: RunTokenizer,
        device: &Device,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self, ModelError> {
        let precision = run_config.eval.precision;
        if precision == Precision::Bf16 && !device.supports_dtype(DType::BF16) {
            precision::check_evaluation(run_config, device)?;
        }
        Ok(match AnyMethod::new(run_config, tokenizer)? {
            AnyMethod::Dit(method) => {
                let net = precision::seen(&weighted(method.build(device)?, checkpoint)?, precision);
                Self::Dit(Dit::new(method.config, &net, method.tokenizer.shared())?)
            }
            AnyMethod::Evf(method) => {
                let net = precision::seen(&weighted(method.build(device)?, checkpoint)?, precision);
                Self::Evf(EvfSam::new(method.config, &net, method.tokenizer.shared())?)
            }
            AnyMethod::Risam(method) => {
                let net = precision::seen(&weighted(method.build(device)?, checkpoint)?, precision);
                Self::Risam(Risam::new(method.config, &net, method.tokenizer.shared())?)
            }
        })
    }

    /// One mask per sentence, at the image's own size.
    ///
    /// # Errors
    /// An image or a sentence that the method refuses.
    pub fn predict(&self, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, ModelError> {
        Ok(match self {
            Self::Dit(model) => model.predict(image, sentences)?,
            Self::Evf(model) => model.predict(image, sentences)?,
            Self::Risam(model) => model.predict(image, sentences)?,
        })
    }

    /// Where text and image look at each other, as the paper's figure shows it.
    ///
    /// # Errors
    /// An image or a sentence that the method refuses, or a variant without such maps.
    pub fn attention(&self, image: &Image, sentence: &str) -> Result<Attention, ModelError> {
        match self {
            Self::Dit(model) => attention::of_dit(model, image, sentence),
            Self::Evf(model) => attention::of_evf(model, image, sentence),
            Self::Risam(model) => attention::of_risam(model, image, sentence),
        }
    }
}

fn weighted<N: burn::module::Module>(net: N, checkpoint: Option<&Checkpoint>) -> Result<N, ModelError> {
    match checkpoint {
        Some(checkpoint) => evaluated_weights(net, checkpoint),
        None => Ok(net),
    }
}
