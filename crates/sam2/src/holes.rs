//! Small holes of a mask, filled in its logits.

use burn::tensor::{Tensor, TensorData};
use sam_vit::{components, read_back};

use crate::error::Sam2Error;

/// Largest hole that the reference's video code fills, in low-resolution pixels.
pub const HOLE_AREA: u64 = 8;
/// Logit of a filled pixel.
const FILLED: f32 = 0.1;

/// Fills the connected parts (8 neighbours) of the logits that are not above 0, those at the border included, of at most
/// `area` pixels.
///
/// # Shapes
/// [N, M, h, w] -> the same
///
/// # Errors
/// A device that cannot be read.
pub fn fill_holes(logits: Tensor<4>, area: u64) -> Result<Tensor<4>, Sam2Error> {
    let [count, masks, height, width] = logits.dims();
    let (device, kind) = (logits.device(), logits.dtype());
    if area == 0 {
        return Ok(logits);
    }
    let mut values = read_back(logits.clone())?;
    let mut changed = false;
    for mask in values.chunks_exact_mut((height * width).max(1)) {
        let outside: Vec<u8> = mask.iter().map(|v| u8::from(*v <= 0.0)).collect();
        let (labels, sizes) = components(&outside, width);
        let holes = mask.iter_mut().zip(labels).filter(|(_, label)| *label > 0 && sizes[*label as usize - 1] <= area);
        for (value, _) in holes {
            *value = FILLED;
            changed = true;
        }
    }
    Ok(if changed { Tensor::from_data(TensorData::new(values, [count, masks, height, width]), (&device, kind)) } else { logits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// A hole of two diagonal neighbours and one at the border are filled at an area of 2; three pixels are not.
    #[test]
    fn small_holes_anywhere() {
        let map = "0##0###0##\n##0####000";
        let values: Vec<f32> =
            map.bytes().filter(|b| *b != b'\n').map(|b| if b == b'#' { 3.0 } else { -2.0 + f32::from(b - b'0') }).collect();
        let logits = Tensor::<4>::from_data(TensorData::new(values.clone(), [1, 1, 2, 10]), &Device::flex());
        let got = fill_holes(logits.clone(), 2).unwrap().into_data().try_to_vec::<f32>().unwrap();
        let filled: Vec<usize> = (0..20).filter(|i| got[*i] != values[*i]).collect();
        assert_eq!(filled, [0, 3, 12], "the one at the border and the diagonal pair");
        assert!(filled.iter().all(|i| got[*i] == 0.1));
        let untouched = fill_holes(logits, 0).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(untouched, values);
    }
}
