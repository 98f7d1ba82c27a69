//! Shifted windows: which tokens attend to each other, and the bias of their relative position (Swin Transformer, sec. 3.2).

use burn::tensor::{Device, Int, Tensor, TensorData};
use nn_ops::precision::to_f32;
use nn_ops::resize::Resize;

/// What is added to the logits of two tokens that only the shift brought into one window. The softmax makes it 0.
pub const SHIFT_MASK: f32 = -100.0;

/// Which row of a table belongs to each pair of tokens of a window: `(dy + w - 1) (2 w - 1) + dx + w - 1`, where (dy, dx) is
/// the query's place less the key's.
///
/// # Shapes
/// output: w^4 numbers, row-major [queries, keys]
pub fn relative_position_index(window: usize) -> Vec<i32> {
    let tokens = window * window;
    let pair = |at: usize| {
        let (query, key) = (at / tokens, at % tokens);
        let offset = |query: usize, key: usize| query + window - 1 - key;
        let (dy, dx) = (offset(query / window, key / window), offset(query % window, key % window));
        (dy * (2 * window - 1) + dx) as i32
    };
    (0..tokens * tokens).map(pair).collect()
}

/// 0 or [`SHIFT_MASK`] per pair of tokens of each window, for a map of `height` x `width` tokens (multiples of the window)
/// that was rolled by `-shift` along both axes. It knows nothing of padding.
///
/// # Shapes
/// output: row-major [windows, w^2, w^2]
pub fn shift_mask(height: usize, width: usize, window: usize, shift: usize) -> Vec<f32> {
    let region = |at: usize, side: usize| usize::from(at >= side - window) + usize::from(at >= side - shift);
    let tokens = window * window;
    let mut mask = Vec::with_capacity(height * width * tokens);
    for index in 0..(height / window) * (width / window) {
        let (top, left) = (index / (width / window) * window, index % (width / window) * window);
        let regions: Vec<usize> =
            (0..tokens).map(|t| 3 * region(top + t / window, height) + region(left + t % window, width)).collect();
        for query in &regions {
            mask.extend(regions.iter().map(|key| if query == key { 0.0 } else { SHIFT_MASK }));
        }
    }
    mask
}

/// A table of relative positions for another window: bicubic, half-pixel centres, head by head.
///
/// # Shapes
/// [(2 from - 1)^2, heads] -> [(2 to - 1)^2, heads]
pub fn resize_table(table: Tensor<2>, to: usize) -> Tensor<2> {
    let [rows, heads] = table.dims();
    let (side, new) = (rows.isqrt(), 2 * to - 1);
    if side == new {
        return table;
    }
    let maps = table.transpose().reshape([1, heads, side, side]);
    Resize::BICUBIC.forward(maps, [new, new]).reshape([heads, new * new]).transpose()
}

/// What the blocks of a stage share for a map of one size: the window, the index of their tables and the shift mask.
#[derive(Debug, Clone)]
pub struct WindowGrid {
    /// Side of a window, in tokens.
    pub window: usize,
    /// Tokens by which every second block moves its windows.
    pub shift: usize,
    /// Rows of the padded map.
    pub rows: usize,
    /// Columns of the padded map.
    pub columns: usize,
    /// [`relative_position_index`], \[w^4\].
    index: Tensor<1, Int>,
    /// [`shift_mask`], [windows, w^2, w^2]; absent where no block shifts.
    mask: Option<Tensor<3>>,
}

impl WindowGrid {
    /// For a map of `height` x `width` tokens, shifted blocks included where `shifts`.
    pub fn new(height: usize, width: usize, window: usize, shifts: bool, device: &Device) -> Self {
        let (rows, columns) = (height.next_multiple_of(window), width.next_multiple_of(window));
        let (tokens, shift) = (window * window, window / 2);
        let mask = (shifts && shift > 0).then(|| {
            let windows = (rows / window) * (columns / window);
            Tensor::from_data(TensorData::new(shift_mask(rows, columns, window, shift), [windows, tokens, tokens]), device)
        });
        let index = Tensor::from_data(TensorData::new(relative_position_index(window), [tokens * tokens]), device);
        Self { window, shift, rows, columns, index, mask }
    }

    /// Windows of an image.
    pub fn windows(&self) -> usize {
        (self.rows / self.window) * (self.columns / self.window)
    }

    /// What is added to the logits of a block with this table: the bias of relative position, and the mask where the block
    /// is `shifted`; in single precision, as logits are.
    ///
    /// # Shapes
    /// `table`: [(2 w - 1)^2, heads]; output: [1, heads, w^2, w^2], or [windows, heads, w^2, w^2] where shifted
    pub fn bias(&self, table: Tensor<2>, shifted: bool) -> Tensor<4> {
        let (tokens, heads) = (self.window * self.window, table.dims()[1]);
        let bias = to_f32(table).select(0, self.index.clone()).transpose().reshape([1, heads, tokens, tokens]);
        match &self.mask {
            Some(mask) if shifted => bias + mask.clone().unsqueeze_dim::<4>(1),
            _ => bias,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_of_windows_of_two() {
        assert_eq!(relative_position_index(2), [4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4]);
    }

    /// Swapping query and key mirrors the table, and a token's row to itself is the middle.
    #[test]
    fn index_is_antisymmetric() {
        for window in [1, 3, 4, 7, 12] {
            let (index, tokens) = (relative_position_index(window), window * window);
            let last = ((2 * window - 1).pow(2) - 1) as i32;
            for query in 0..tokens {
                assert_eq!(index[query * tokens + query], last / 2);
                for key in 0..tokens {
                    assert_eq!(index[query * tokens + key] + index[key * tokens + query], last, "window {window}");
                }
            }
        }
    }

    /// A map of 4 x 4 tokens in windows of 2, moved by 1: regions 0 0 1 2 along each axis.
    #[test]
    fn mask_of_a_map_of_four() {
        let mask = shift_mask(4, 4, 2, 1);
        let apart = |window: usize| mask[window * 16..][..16].iter().map(|m| usize::from(*m < 0.0)).collect::<Vec<_>>();
        assert_eq!(apart(0), [0; 16]);
        assert_eq!(apart(1), [0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0]);
        assert_eq!(apart(2), [0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0]);
        assert_eq!(apart(3).iter().sum::<usize>(), 12);
    }

    /// After the roll, a pair may meet exactly where both tokens come from neighbouring places of the map: their distance
    /// along each axis is below the window, as it is in windows that were never rolled.
    #[test]
    fn mask_separates_what_the_roll_brought_together() {
        for (height, width, window) in [(6, 9, 3), (8, 8, 4), (24, 12, 12), (10, 15, 5)] {
            let shift = window / 2;
            let (mask, tokens) = (shift_mask(height, width, window, shift), window * window);
            for (at, value) in mask.iter().enumerate() {
                let (index, query, key) = (at / (tokens * tokens), at / tokens % tokens, at % tokens);
                let (top, left) = (index / (width / window) * window, index % (width / window) * window);
                let place = |t: usize| ((top + t / window + shift) % height, (left + t % window + shift) % width);
                let (a, b) = (place(query), place(key));
                let near = a.0.abs_diff(b.0) < window && a.1.abs_diff(b.1) < window;
                // Only a map of a single window along an axis brings tokens together that are near anyhow.
                if height > window && width > window {
                    assert_eq!(*value == 0.0, near, "{height} x {width}, window {window}: {a:?} and {b:?}");
                }
            }
        }
    }

    #[test]
    fn every_token_sees_itself() {
        let mask = shift_mask(12, 12, 12, 6);
        assert!((0..144).all(|t| mask[t * 144 + t] == 0.0));
        // One window over the whole map falls into four parts.
        assert_eq!(mask.iter().filter(|m| **m == 0.0).count(), 4 * 36 * 36);
    }

    #[test]
    fn a_table_keeps_its_middle_and_sums() {
        let device = Device::flex();
        let ones = resize_table(Tensor::ones([169, 4], &device), 12);
        assert_eq!(ones.dims(), [529, 4]);
        assert!(ones.into_data().iter::<f32>().all(|v| (v - 1.0).abs() < 1e-5));
        let ramp = Tensor::<1, Int>::arange(0..25, &device).float().reshape([25, 1]);
        let middle = resize_table(ramp.clone(), 5).into_data().try_to_vec::<f32>().unwrap()[40];
        assert!((middle - 12.0).abs() < 1e-4, "{middle}");
        assert_eq!(resize_table(ramp.clone(), 3).into_data(), ramp.into_data());
    }
}
