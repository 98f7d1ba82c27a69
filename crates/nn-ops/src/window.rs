//! Windows of image tokens: `window_partition` and `window_unpartition`, with padding, and attention inside them.

use burn::tensor::Tensor;
use cpu_kernels::{Group, Token};

use crate::attention::{attention, merge_heads, split_qkv};
use crate::cpu;

/// Multi-head self-attention inside the windows of `side` x `side` tokens that cover an image, heads merged, without any
/// position.
///
/// Windows at the bottom and right are filled up with `padding`, a projected token that takes part in attention.
///
/// # Shapes
/// - `qkv`: [B, H, W, 3 C], ordered (q | k | v) x head x width; `padding`: \[3 C\]
/// - output: [B, H, W, C]
pub fn windowed_attention(qkv: Tensor<4>, padding: Tensor<1>, heads: usize, side: usize) -> Tensor<4> {
    let [batch, height, width, triple] = qkv.dims();
    let to = [batch, height, width, triple / 3];
    let windows = || {
        let mut groups = window_groups([batch, height, width], side);
        groups.iter_mut().flat_map(|group| &mut group.tokens).for_each(|token| token.place = None);
        groups
    };
    match cpu::grouped_attention(qkv.reshape([batch * height * width, triple]), &padding, heads, windows, || None) {
        Ok(attended) => attended.reshape(to),
        Err(rows) => {
            let windows = window_partition_with(rows.reshape([batch, height, width, triple]), side, padding);
            let [q, k, v] = split_qkv(windows, heads);
            window_unpartition(merge_heads(attention(q, k, v, None, None)), side, to)
        }
    }
}

/// Pads bottom and right with zeros until both sides are multiples of `side`.
///
/// # Shapes
/// [B, H, W, C] -> [B, ceil(H / side) side, ceil(W / side) side, C]
pub fn pad_to_multiple(x: Tensor<4>, side: usize) -> Tensor<4> {
    let token = Tensor::zeros([x.dims()[3]], (&x.device(), x.dtype()));
    pad_with(x, side, token)
}

/// Cuts into windows of `side` x `side` tokens, padding bottom and right with zeros.
///
/// # Shapes
/// [B, H, W, C] -> [B * windows, side * side, C]
pub fn window_partition(x: Tensor<4>, side: usize) -> Tensor<3> {
    let token = Tensor::zeros([x.dims()[3]], (&x.device(), x.dtype()));
    window_partition_with(x, side, token)
}

/// As [`window_partition`], padding with a given token.
///
/// # Shapes
/// [B, H, W, C], \[C\] -> [B * windows, side * side, C]
pub fn window_partition_with(x: Tensor<4>, side: usize, token: Tensor<1>) -> Tensor<3> {
    let x = pad_with(x, side, token);
    let [batch, height, width, channels] = x.dims();
    let (rows, columns) = (height / side, width / side);
    x.reshape([batch, rows, side, columns, side, channels]).permute([0, 1, 3, 2, 4, 5]).reshape([
        batch * rows * columns,
        side * side,
        channels,
    ])
}

/// Pads bottom and right with a token until both sides are multiples of `side`.
fn pad_with(x: Tensor<4>, side: usize, token: Tensor<1>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let (rows, columns) = (height.next_multiple_of(side), width.next_multiple_of(side));
    let token = token.cast(x.dtype()).reshape([1, 1, 1, channels]);
    let mut x = x;
    if rows > height {
        x = Tensor::cat(vec![x, token.clone().expand([batch, rows - height, width, channels])], 1);
    }
    if columns > width {
        x = Tensor::cat(vec![x, token.expand([batch, rows, columns - width, channels])], 2);
    }
    x
}

/// Undoes [`window_partition`] and drops the padding.
///
/// # Shapes
/// [B * windows, side * side, C] -> [B, H, W, C] (`to`)
pub fn window_unpartition(x: Tensor<3>, side: usize, to: [usize; 4]) -> Tensor<4> {
    let [batch, height, width, channels] = to;
    let (rows, columns) = (height.div_ceil(side), width.div_ceil(side));
    x.reshape([batch, rows, columns, side, side, channels])
        .permute([0, 1, 3, 2, 4, 5])
        .reshape([batch, rows * side, columns * side, channels])
        .narrow(1, 0, height)
        .narrow(2, 0, width)
}

/// The windows that [`window_partition`] cuts, as groups of [B * H * W] rows.
pub(crate) fn window_groups([batch, height, width]: [usize; 3], side: usize) -> Vec<Group> {
    let (rows, columns) = (height.div_ceil(side), width.div_ceil(side));
    let window = |index: usize| {
        let (image, top, left) = (index / (rows * columns), index / columns % rows * side, index % columns * side);
        let token = |at: usize| {
            let (y, x) = (at / side, at % side);
            let inside = top + y < height && left + x < width;
            Token { row: inside.then_some((image * height + top + y) * width + left + x), place: Some((y, x)) }
        };
        Group { tokens: (0..side * side).map(token).collect() }
    };
    (0..batch * rows * columns).map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};
    use burn::tensor::Device;

    #[test]
    fn windows_are_padded_and_undone() {
        let device = Device::flex();
        let x = formula::<4>("x", [2, 5, 4, 3], &device);
        let token = Tensor::<1>::from_floats([7.0, 8.0, 9.0], &device);
        let windows = window_partition_with(x.clone(), 3, token);
        assert_eq!(windows.dims(), [8, 9, 3]);
        // The last token of the first image's last window lies in the corner beyond the image.
        assert_eq!(windows.clone().slice([3..4, 8..9]).into_data().try_to_vec::<f32>().unwrap(), [7.0, 8.0, 9.0]);
        assert_close(window_unpartition(windows, 3, [2, 5, 4, 3]), x.clone(), 0.0);
        assert_eq!(pad_to_multiple(x.clone(), 3).dims(), [2, 6, 6, 3]);
        assert_eq!(window_partition(x, 3).slice([3..4, 8..9]).into_data().try_to_vec::<f32>().unwrap(), [0.0; 3]);
    }

    /// The kernels' way and the general one, which gradients take, on windows with padding.
    #[test]
    fn attention_in_windows_is_one_on_every_way() {
        let of = |device: &Device| {
            let (qkv, padding) = (formula::<4>("qkv", [2, 7, 5, 24], device) * 3.0, formula::<1>("padding", [24], device));
            windowed_attention(qkv, padding, 2, 3).inner()
        };
        let device = Device::flex();
        let whole = formula::<4>("qkv", [2, 7, 5, 24], &device) * 3.0;
        let got = windowed_attention(whole.clone(), formula::<1>("padding", [24], &device), 2, 3);
        assert_close(got.clone(), of(&Device::flex().autodiff()), 1e-5);
        // The window of rows 3 to 5 and columns 0 to 2 has no padding: its tokens attend among themselves.
        let inside = whole.narrow(0, 1, 1).narrow(1, 3, 3).narrow(2, 0, 3).reshape([1, 9, 24]);
        let [q, k, v] = split_qkv(inside, 2);
        let want = merge_heads(attention(q, k, v, None, None)).reshape([1, 3, 3, 8]);
        assert_close(got.narrow(0, 1, 1).narrow(1, 3, 3).narrow(2, 0, 3), want, 1e-5);
    }

    /// The rows of the groups are the tokens of the windows.
    #[test]
    fn groups_are_the_windows() {
        let device = Device::flex();
        let rows = Tensor::<1>::from_floats(std::array::from_fn::<f32, 40, _>(|i| i as f32).as_slice(), &device);
        let windows = window_partition_with(rows.reshape([2, 5, 4, 1]), 3, Tensor::from_floats([-1.0], &device));
        let row = |token: &Token| token.row.map_or(-1.0, |row| row as f32);
        let groups: Vec<f32> = window_groups([2, 5, 4], 3).iter().flat_map(|group| group.tokens.iter().map(row)).collect();
        assert_eq!(windows.into_data().try_to_vec::<f32>().unwrap(), groups);
    }
}
