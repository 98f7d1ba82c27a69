//! A method as the trainer sees it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::weights::Names;
use pil_ops::Image;
use sam_vit::Prediction;

use crate::batch::{HostBatch, Normalisation};
use crate::error::TrainError;

/// A text-prompted segmenter that can be trained: parameters apart from everything that is not trained (sizes,
/// tokenizer), so that the loop can clone, average and save the former.
pub trait Segmenter: Send + Sync {
    /// The parameters.
    type Net: Module + Sync + 'static;

    /// Fresh parameters, or those of the weight files that the plan names.
    ///
    /// # Errors
    /// A weight file that does not fit.
    fn init(&self, device: &Device) -> Result<Self::Net, TrainError>;

    /// Official names of the parameters.
    fn names(&self) -> Names;

    /// How images are normalised.
    fn normalisation(&self) -> Normalisation {
        Normalisation::IMAGENET
    }

    /// Mask logits at the network's input size.
    ///
    /// # Shapes
    /// `images`: [B, 3, S, S]; one sentence an image; output: [B, 1, S, S]
    ///
    /// # Errors
    /// A sentence that the tokenizer refuses.
    fn logits(&self, net: &Self::Net, images: Tensor<4>, sentences: &[&str]) -> Result<Tensor<4>, TrainError>;

    /// The paper's loss, \[1\].
    ///
    /// # Shapes
    /// `logits`, `masks`: [B, 1, S, S]
    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Tensor<1>;

    /// One mask a sentence for an image of any size: the method's own pre- and postprocessing.
    ///
    /// # Errors
    /// An image or a sentence that the method refuses.
    fn predict(&self, net: &Self::Net, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, TrainError>;

    /// Whether a forward pass in training draws random numbers (dropout). Burn's CPU generator is shared between
    /// threads, so such a method cannot be trained in several shards and still be repeated.
    fn draws(&self) -> bool;

    /// Files that belong beside the weights (a vocabulary), by name.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}
