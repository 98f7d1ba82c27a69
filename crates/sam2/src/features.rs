//! What is kept of an image: the map that prompts meet, and two finer ones.

use burn::tensor::Tensor;

use crate::error::Sam2Error;

/// Features of B images.
#[derive(Debug, Clone)]
pub struct Features {
    /// The map at a 16th of the input, [B, C, h, w].
    pub image: Tensor<4>,
    /// What the decoder adds at an 8th, [B, C / 4, 2h, 2w].
    pub h1: Tensor<4>,
    /// What the decoder adds at a quarter, [B, C / 8, 4h, 4w].
    pub h0: Tensor<4>,
}

impl Features {
    /// From the maps in the order of the fields.
    ///
    /// # Errors
    /// Other than three maps, or maps that do not fit together.
    pub fn new(maps: Vec<Tensor<4>>) -> Result<Self, Sam2Error> {
        let count = maps.len();
        let Ok([image, h1, h0]) = <[Tensor<4>; 3]>::try_from(maps) else {
            return Err(Sam2Error::Shape { what: "maps of features", found: vec![count], expected: "three".into() });
        };
        let [batch, channels, height, width] = image.dims();
        for (map, scale) in [(&h1, 2), (&h0, 4)] {
            let right = [batch, channels / (2 * scale), scale * height, scale * width];
            if map.dims() != right {
                let expected = format!("{right:?} beside a map of {:?}", image.dims());
                return Err(Sam2Error::Shape { what: "a finer map of features", found: map.dims().to_vec(), expected });
            }
        }
        Ok(Self { image, h1, h0 })
    }

    /// The maps in the order of the fields.
    pub fn into_maps(self) -> Vec<Tensor<4>> {
        vec![self.image, self.h1, self.h0]
    }

    /// The features of image number `at`.
    pub fn one(&self, at: usize) -> Self {
        let of = |map: &Tensor<4>| map.clone().narrow(0, at, 1);
        Self { image: of(&self.image), h1: of(&self.h1), h0: of(&self.h0) }
    }
}
