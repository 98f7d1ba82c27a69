//! Window partition of token grids, with zero padding to whole windows.

use burn::tensor::Tensor;

/// Pads bottom and right with zeros until both sides are multiples of `side`.
///
/// # Shapes
/// [B, H, W, C] -> [B, ceil(H / side) side, ceil(W / side) side, C]
pub fn pad_to_multiple(x: Tensor<4>, side: usize) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let (rows, columns) = (height.next_multiple_of(side), width.next_multiple_of(side));
    let options = (&x.device(), x.dtype());
    let mut x = x;
    if rows > height {
        x = Tensor::cat(vec![x, Tensor::zeros([batch, rows - height, width, channels], options)], 1);
    }
    let options = (&x.device(), x.dtype());
    if columns > width {
        x = Tensor::cat(vec![x, Tensor::zeros([batch, rows, columns - width, channels], options)], 2);
    }
    x
}

/// Cuts into windows, row by row, padding bottom and right with zeros.
///
/// # Shapes
/// [B, H, W, C] -> [B * windows, side * side, C]
pub fn partition(x: Tensor<4>, side: usize) -> Tensor<3> {
    let x = pad_to_multiple(x, side);
    let [batch, height, width, channels] = x.dims();
    let (rows, columns) = (height / side, width / side);
    x.reshape([batch, rows, side, columns, side, channels]).permute([0, 1, 3, 2, 4, 5]).reshape([
        batch * rows * columns,
        side * side,
        channels,
    ])
}

/// Undoes [`partition`] and drops the padding.
///
/// # Shapes
/// [B * windows, side * side, C] -> [B, H, W, C] (`to`)
pub fn join(x: Tensor<3>, side: usize, to: [usize; 4]) -> Tensor<4> {
    let [batch, height, width, channels] = to;
    let (rows, columns) = (height.div_ceil(side), width.div_ceil(side));
    x.reshape([batch, rows, columns, side, side, channels])
        .permute([0, 1, 3, 2, 4, 5])
        .reshape([batch, rows * side, columns * side, channels])
        .narrow(1, 0, height)
        .narrow(2, 0, width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};
    use burn::tensor::Device;

    #[test]
    fn windows_are_rows_of_rows_and_come_back() {
        let device = Device::flex();
        let x = formula::<4>("x", [2, 5, 7, 3], &device);
        let cut = partition(x.clone(), 4);
        assert_eq!(cut.dims(), [8, 16, 3]);
        // Second image, second window, token (2, 1): row 2, column 5.
        let token = cut.clone().narrow(0, 5, 1).narrow(1, 9, 1).reshape([1, 1, 1, 3]);
        assert_close(token, x.clone().narrow(0, 1, 1).narrow(1, 2, 1).narrow(2, 5, 1), 0.0);
        // The last column of that window is padding.
        assert_close(cut.clone().narrow(0, 5, 1).narrow(1, 11, 1), Tensor::zeros([1, 1, 3], &device), 0.0);
        assert_close(join(cut, 4, [2, 5, 7, 3]), x, 0.0);
    }
}
