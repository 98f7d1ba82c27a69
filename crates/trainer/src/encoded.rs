//! Features of images during an evaluation: each image is encoded once for all of its sentences, or not at all where its features are
//! kept.

use burn::tensor::Device;

use crate::batch::{HostBatch, HostTensor};
use crate::cache::{rounded, rows};
use crate::data::EvalBatch;
use crate::error::TrainError;
use crate::segmenter::Segmenter;

/// Gives the images of batches, which come image by image, their features.
///
/// Images are encoded one at a time: what is made of an image does not depend on the images beside it, and so not on the number of
/// ranks either.
pub(crate) struct Encoded<'a, S: Segmenter> {
    segmenter: &'a S,
    net: &'a S::Net,
    device: &'a Device,
    /// Whether features are rounded as kept ones are.
    round: bool,
    /// The last image of the batch before, whose sentences may go on in the next one.
    last: Option<(usize, Vec<HostTensor>)>,
}

impl<'a, S: Segmenter> Encoded<'a, S> {
    /// For the batches of one evaluation. Features are rounded as kept ones are where some may be: results must not depend on which.
    pub(crate) fn new(segmenter: &'a S, net: &'a S::Net, device: &'a Device, round: bool) -> Self {
        Self { segmenter, net, device, round, last: None }
    }

    /// Fills in the features that the batch does not bring.
    ///
    /// # Errors
    /// An encoder that fails, or features beyond half precision where they are rounded.
    pub(crate) fn fill(&mut self, of: &mut EvalBatch) -> Result<(), TrainError> {
        if !self.segmenter.encodes_once() {
            return Ok(());
        }
        let batch = &mut of.batch;
        batch.features.resize(batch.image_count(), Vec::new());
        for (place, image) in of.images.iter().enumerate() {
            if batch.features[place].is_empty() {
                batch.features[place] = match self.last.take_if(|(last, _)| last == image) {
                    Some((_, features)) => features,
                    None => self.encode(batch, place)?,
                };
            }
        }
        self.last = of.images.last().copied().zip(batch.features.last().cloned());
        Ok(())
    }

    fn encode(&self, batch: &HostBatch, place: usize) -> Result<Vec<HostTensor>, TrainError> {
        let features = self.segmenter.features(self.net, batch.image(place, self.device))?;
        let mut of_image = Vec::with_capacity(features.len());
        for tensor in features {
            let tensor = rows(tensor)?.pop().ok_or_else(|| TrainError::Device {
                what: "features",
                reason: "the image encoder gave none for an image".into(),
            })?;
            of_image.push(if self.round { rounded(tensor)? } else { tensor });
        }
        Ok(of_image)
    }
}
