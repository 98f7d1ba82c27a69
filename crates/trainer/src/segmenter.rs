//! A method as the trainer sees it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use nn_ops::weights::KeyMap;

use crate::batch::{HostBatch, Inputs};
use crate::error::TrainError;
use crate::memory::Stack;

/// A loss and what it is made of.
#[derive(Debug, Clone)]
pub struct Loss {
    /// What is minimised, \[1\].
    pub total: Tensor<1>,
    /// Its terms by name before they are weighted, each \[1\]: the log and the curves show them apart. Empty where the loss has
    /// one term.
    pub terms: Vec<(&'static str, Tensor<1>)>,
}

impl From<Tensor<1>> for Loss {
    /// A loss of one term.
    fn from(total: Tensor<1>) -> Self {
        Self { total, terms: Vec::new() }
    }
}

/// A text-prompted segmenter that can be trained: parameters apart from everything that is not trained (sizes,
/// tokenizer), so that the loop can clone, average and save the former.
pub trait Segmenter: Send + Sync {
    /// The parameters.
    type Net: Module + Sync + 'static;

    /// Fresh parameters, or those of the weight files that the config names.
    ///
    /// # Errors
    /// A weight file that does not fit.
    fn init(&self, device: &Device) -> Result<Self::Net, TrainError>;

    /// Official names of the parameters.
    fn names(&self) -> KeyMap;

    /// How photographs become inputs, on the loader's threads.
    fn inputs(&self) -> Inputs {
        Inputs::CANVAS
    }

    /// Whether the parameter with this official name is trained where the config freezes nothing.
    fn trains(&self, _name: &str) -> bool {
        true
    }

    /// Mask logits at the network's input size, a row a sentence; where images fill their canvas, of any side that the method's
    /// own loss takes.
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

    /// The paper's loss: a mean over the sentences of the batch.
    ///
    /// # Shapes
    /// `logits`, `masks`: [Q, 1, S, S]
    ///
    /// # Errors
    /// A batch without sentences.
    fn loss(&self, logits: Tensor<4>, masks: Tensor<4>, batch: &HostBatch) -> Result<Loss, TrainError>;

    /// Official prefix of the part of the network that sees the image only and is never trained, if there is one.
    fn frozen_prefix(&self) -> Option<&'static str> {
        None
    }

    /// What the frozen part depends on besides its weights and the preparation of images: sizes that no shape shows, choices. Kept
    /// features of networks that agree in this are shared.
    fn frozen_settings(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Whether no sentence changes what [`Segmenter::features`] makes of an image, and [`Segmenter::judged`] takes it from the batch:
    /// an evaluation then encodes each image once.
    fn encodes_once(&self) -> bool {
        false
    }

    /// What the image encoder makes of images, before any sentence: where it is frozen the same in every epoch, so that it may be
    /// kept.
    ///
    /// # Shapes
    /// `images`: [B, 3, S, S]; output: each [B, ...]
    ///
    /// # Errors
    /// Images that do not fit.
    fn features(&self, _net: &Self::Net, _images: Tensor<4>) -> Result<Vec<Tensor<4>>, TrainError> {
        Ok(Vec::new())
    }

    /// The parts of the network whose activations a training step needs memory for, for an estimate before the first step. Nothing
    /// where no estimate is wanted.
    fn stacks(&self) -> Vec<Stack> {
        Vec::new()
    }

    /// Why a batch cannot be cut into parts that run side by side, if it cannot: random numbers drawn in training (Burn's
    /// CPU generator is shared between threads, the run could not be repeated), or statistics over the batch.
    fn sharding_blocker(&self) -> Option<&'static str>;

    /// Files that belong beside the weights (a vocabulary), by name.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
}
