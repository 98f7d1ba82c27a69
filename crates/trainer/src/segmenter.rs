//! A method as the trainer sees it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::weights::Names;
use pil_ops::Image;
use sam_vit::Prediction;

use crate::batch::{HostBatch, Normalisation};
use crate::error::TrainError;
use crate::picture::HeatMap;

/// Who looks where in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// A row a layer, a column a word.
    pub maps: Vec<HeatMap>,
    /// What maps over the image cannot show, a line each.
    pub notes: Vec<String>,
}

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

    /// Whether the parameter with this official name is trained where the plan freezes nothing.
    fn trains(&self, _name: &str) -> bool {
        true
    }

    /// Mask logits at the network's input size, a row a sentence.
    ///
    /// # Shapes
    /// output: [Q, 1, S, S]
    ///
    /// # Errors
    /// A sentence that the tokenizer refuses.
    fn logits(&self, net: &Self::Net, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError>;

    /// The mask logits that are judged: [`Segmenter::logits`], or, where images fill their canvas, logits of any side that go
    /// straight to the image's size.
    ///
    /// # Shapes
    /// output: [Q, 1, s, s]
    ///
    /// # Errors
    /// As [`Segmenter::logits`].
    fn judged(&self, net: &Self::Net, batch: &HostBatch, device: &Device) -> Result<Tensor<4>, TrainError> {
        self.logits(net, batch, device)
    }

    /// The paper's loss, \[1\]: a mean over the sentences of the batch.
    ///
    /// # Shapes
    /// `logits`, `masks`: [Q, 1, S, S]
    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Tensor<1>, TrainError>;

    /// Official prefix of the part of the network that sees the image only and is never trained, if there is one.
    fn frozen_part(&self) -> Option<&'static str> {
        None
    }

    /// What the frozen part makes of images: the same in every epoch, so that it may be kept.
    ///
    /// # Shapes
    /// `images`: [B, 3, S, S]; output: each [B, ...]
    ///
    /// # Errors
    /// Images that do not fit.
    fn features(&self, _net: &Self::Net, _images: Tensor<4>) -> Result<Vec<Tensor<4>>, TrainError> {
        Ok(Vec::new())
    }

    /// One mask a sentence for an image of any size: the method's own pre- and postprocessing.
    ///
    /// # Errors
    /// An image or a sentence that the method refuses.
    fn predict(&self, net: &Self::Net, image: &Image, sentences: &[&str]) -> Result<Vec<Prediction>, TrainError>;

    /// Where text and image look at each other, as the paper's figure shows it.
    ///
    /// # Errors
    /// An image or a sentence that the method refuses, or a variant without such maps.
    fn attention(&self, net: &Self::Net, image: &Image, sentence: &str) -> Result<Attention, TrainError>;

    /// Why a batch cannot be cut into parts that run side by side, if it cannot: random numbers drawn in training (Burn's
    /// CPU generator is shared between threads, the run could not be repeated), or statistics over the batch.
    fn indivisible(&self) -> Option<&'static str>;

    /// Files that belong beside the weights (a vocabulary), by name.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}
