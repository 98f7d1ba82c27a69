//! What the automatic mask generator asks of a model.

use burn::tensor::{Device, Int, Tensor};
use pil_ops::{Image, Letterbox};

use crate::error::SamError;
use crate::mask_decoder::Output;
use crate::predictor::ImageEmbedding;
use crate::preprocess::restore;
use crate::prompt_encoder::Prompts;
use crate::sam::Sam;

/// What the automatic mask generator asks of a model: an embedding per crop, masks per click.
pub trait ClickModel {
    /// An image behind the encoder.
    type Embedding;

    /// Encodes an image once.
    ///
    /// # Errors
    /// An input beyond the sizes that the model takes, or a device that fails.
    fn embed(&self, image: &Image) -> Result<Self::Embedding, SamError>;

    /// Where the image lies in the input.
    fn letterbox(embedding: &Self::Embedding) -> &Letterbox;

    /// Where the weights are.
    fn device(&self) -> Device;

    /// Three masks for each click on the foreground, `points` in the network's input.
    ///
    /// # Shapes
    /// `points`: [N, 1, 2] as (x, y); outputs: logits [N, 3, 4h, 4w] and predicted IoU [N, 3]
    ///
    /// # Errors
    /// An embedding of another model.
    fn click(&self, embedding: &Self::Embedding, points: Tensor<3>) -> Result<(Tensor<4>, Tensor<2>), SamError>;

    /// Brings low-resolution logits to the image's own size.
    ///
    /// # Shapes
    /// [N, M, 4h, 4w] -> [N, M, height, width]
    fn restore(&self, low_res: Tensor<4>, letterbox: &Letterbox) -> Tensor<4>;
}

impl ClickModel for Sam {
    type Embedding = ImageEmbedding;

    fn embed(&self, image: &Image) -> Result<ImageEmbedding, SamError> {
        Self::embed(self, image)
    }

    fn letterbox(embedding: &ImageEmbedding) -> &Letterbox {
        &embedding.letterbox
    }

    fn device(&self) -> Device {
        self.image_encoder.pos_embed.lazy_device()
    }

    fn click(&self, embedding: &ImageEmbedding, points: Tensor<3>) -> Result<(Tensor<4>, Tensor<2>), SamError> {
        let labels = Tensor::<2, Int>::ones([points.dims()[0], 1], &points.device());
        let prompts = Prompts { points: Some((points, labels)), ..Prompts::default() };
        let canvas = embedding.letterbox.canvas;
        Ok(self.decode(embedding.features.clone(), prompts, (canvas, canvas), Output::Multi))
    }

    fn restore(&self, low_res: Tensor<4>, letterbox: &Letterbox) -> Tensor<4> {
        restore(low_res, letterbox)
    }
}
