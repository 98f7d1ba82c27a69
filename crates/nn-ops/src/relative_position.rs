//! Attention with decomposed relative position (`rel_pos_h`, `rel_pos_w`), without a bias tensor.
//!
//! SAM adds `rel_h(q) + rel_w(q)` to the logits, where `rel_h(q)[(y, x), (ky, kx)] = q[y, x] . T_h[y - ky + h - 1]` and
//! likewise for columns. The same logits come from wider vectors, `q' = [s q | rel_h(q) | rel_w(q)]` and
//! `k' = [k | onehot(ky) | onehot(kx)]`, so plain attention serves and no N x N bias exists. Tokens in front of the
//! image (text) have zeros in the added slots and thus no positional term. On the CPU outside of training, the kernels add the
//! two terms as they go instead.

use burn::tensor::{Device, Tensor, TensorData};
use cpu_kernels::{Group, Token};

use crate::attention::{attention, merge_heads, split_qkv};
use crate::cpu;
use crate::resize::Resize;
use crate::window::{window_groups, window_partition_with, window_unpartition};

/// Multi-head self-attention over the tokens of a grid and its prefix, heads merged.
///
/// # Shapes
/// - `qkv`: [B, prefix + h w, 3 C], ordered (q | k | v) x head x width
/// - `tables`: `rel_pos_h` and `rel_pos_w`, [rows, D] each, resized linearly where the grid asks for another number of rows
/// - output: [B, prefix + h w, C]
pub fn relative_attention(qkv: Tensor<3>, heads: usize, grid: &Grid, tables: [Tensor<2>; 2]) -> Tensor<3> {
    let [batch, length, triple] = qkv.dims();
    let padding = Tensor::zeros([triple], (&qkv.device(), qkv.dtype()));
    let resized = || Some(grid.resized(tables.clone()));
    let rows = qkv.reshape([batch * length, triple]);
    match cpu::grouped_attention(rows, &padding, heads, || grid.groups(batch), resized) {
        Ok(attended) => attended.reshape([batch, length, triple / 3]),
        Err(rows) => widened_attention(rows.reshape([batch, length, triple]), heads, grid, tables),
    }
}

/// [`relative_attention`] inside the windows that cover an image. `grid` is that of a window: square and without prefix.
///
/// Windows at the bottom and right are filled up with `padding`, a projected token that takes part in attention.
///
/// # Shapes
/// - `qkv`: [B, H, W, 3 C], ordered (q | k | v) x head x width; `padding`: \[3 C\]; `tables`: [rows, D] each
/// - output: [B, H, W, C]
pub fn windowed_relative_attention(
    qkv: Tensor<4>,
    padding: Tensor<1>,
    heads: usize,
    grid: &Grid,
    tables: [Tensor<2>; 2],
) -> Tensor<4> {
    let [batch, height, width, triple] = qkv.dims();
    let (side, to) = (grid.height, [batch, height, width, triple / 3]);
    let windows = || window_groups([batch, height, width], side);
    let resized = || Some(grid.resized(tables.clone()));
    let rows = qkv.reshape([batch * height * width, triple]);
    match cpu::grouped_attention(rows, &padding, heads, windows, resized) {
        Ok(attended) => attended.reshape(to),
        Err(rows) => {
            let windows = window_partition_with(rows.reshape([batch, height, width, triple]), side, padding);
            window_unpartition(widened_attention(windows, heads, grid, tables), side, to)
        }
    }
}

/// Plain attention of widened queries and keys.
fn widened_attention(qkv: Tensor<3>, heads: usize, grid: &Grid, [table_h, table_w]: [Tensor<2>; 2]) -> Tensor<3> {
    let [q, k, v] = split_qkv(qkv, heads);
    let (q, k) = grid.widen(q, k, table_h, table_w);
    merge_heads(attention(q, k, v, None, None))
}

/// A token grid with a prefix of tokens that have no place in it.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Rows of the grid.
    pub height: usize,
    /// Columns of the grid.
    pub width: usize,
    /// Tokens in front of the grid's.
    pub prefix: usize,
    /// The added slots of the keys, [prefix + h w, h + w].
    one_hot: Tensor<2>,
}

impl Grid {
    /// A grid of `height` x `width` behind `prefix` other tokens.
    pub fn new(height: usize, width: usize, prefix: usize, device: &Device) -> Self {
        let columns = height + width;
        let mut values = vec![0.0f32; (prefix + height * width) * columns];
        for (i, row) in values.chunks_exact_mut(columns).skip(prefix).enumerate() {
            row[i / width] = 1.0;
            row[height + i % width] = 1.0;
        }
        let one_hot = Tensor::from_data(TensorData::new(values, [prefix + height * width, columns]), device);
        Self { height, width, prefix, one_hot }
    }

    /// Widens queries and keys so that plain attention with the default scale adds the relative position.
    ///
    /// `table_h` and `table_w` are the block's tables; their rows are resized linearly when the grid asks for another
    /// number (Segment Anything's `get_rel_pos`).
    ///
    /// # Shapes
    /// `q`, `k`: [B, heads, prefix + h w, D]; tables: [rows, D]; outputs: [B, heads, prefix + h w, D + h + w]
    pub fn widen(&self, q: Tensor<4>, k: Tensor<4>, table_h: Tensor<2>, table_w: Tensor<2>) -> (Tensor<4>, Tensor<4>) {
        let [batch, heads, length, width] = q.dims();
        let widened = width + self.height + self.width;
        // Attention will divide by sqrt(widened); the queries already carry SAM's 1 / sqrt(D) instead.
        let undo = (widened as f64).sqrt();
        let image = q.clone().narrow(2, self.prefix, self.height * self.width);
        let image = image.reshape([batch * heads, self.height, self.width, width]);
        let rows = Self::offsets(table_h, self.height) * undo;
        let columns = Self::offsets(table_w, self.width) * undo;
        // One product per image row (then column) with that row's own slice of the table.
        let by_row = image
            .clone()
            .swap_dims(0, 1)
            .reshape([self.height, batch * heads * self.width, width])
            .matmul(rows.swap_dims(1, 2))
            .reshape([self.height, batch * heads, self.width, self.height])
            .swap_dims(0, 1)
            .reshape([batch, heads, self.height * self.width, self.height]);
        let by_column = image
            .permute([2, 0, 1, 3])
            .reshape([self.width, batch * heads * self.height, width])
            .matmul(columns.swap_dims(1, 2))
            .reshape([self.width, batch * heads, self.height, self.width])
            .permute([1, 2, 0, 3])
            .reshape([batch, heads, self.height * self.width, self.width]);
        let mut added = Tensor::cat(vec![by_row, by_column], 3);
        if self.prefix > 0 {
            let zeros = Tensor::zeros([batch, heads, self.prefix, self.height + self.width], (&q.device(), q.dtype()));
            added = Tensor::cat(vec![zeros, added], 2);
        }
        let q = Tensor::cat(vec![q * (undo / (width as f64).sqrt()), added], 3);
        let one_hot = self.one_hot.clone().cast(k.dtype()).reshape([1, 1, length, self.height + self.width]);
        let k = Tensor::cat(vec![k, one_hot.expand([batch, heads, length, self.height + self.width])], 3);
        (q, k)
    }

    /// The tables with a row for each offset on this grid.
    fn resized(&self, [table_h, table_w]: [Tensor<2>; 2]) -> [Tensor<2>; 2] {
        [(table_h, self.height), (table_w, self.width)].map(|(table, n)| Resize::BILINEAR.rows(table, 2 * n - 1))
    }

    /// All tokens of each of `batch` images, one group per image.
    fn groups(&self, batch: usize) -> Vec<Group> {
        let length = self.prefix + self.height * self.width;
        let place = |at: usize| at.checked_sub(self.prefix).map(|i| (i / self.width, i % self.width));
        let group = |image: usize| Group {
            tokens: (0..length).map(|at| Token { row: Some(image * length + at), place: place(at) }).collect(),
        };
        (0..batch).map(group).collect()
    }

    /// `R[i, j] = T[i - j + n - 1]`, after the table has been brought to 2 n - 1 rows.
    ///
    /// # Shapes
    /// [rows, D] -> [n, n, D]
    fn offsets(table: Tensor<2>, n: usize) -> Tensor<3> {
        let table = Resize::BILINEAR.rows(table, 2 * n - 1);
        let width = table.dims()[1];
        let index: Vec<i64> = (0..n * n).map(|at| (at / n + n - 1 - at % n) as i64).collect();
        let index = Tensor::from_data(TensorData::new(index, [n * n]), &table.device());
        table.select(0, index).reshape([n, n, width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, formula};

    /// The kernels of the CPU, and widened queries and keys, which a graph takes; tables of the grid's size and of another.
    #[test]
    fn attention_does_not_depend_on_the_way_taken() {
        for rows in [[5, 7], [9, 3]] {
            let through = |device: &Device| {
                let tables = [("h", rows[0]), ("w", rows[1])].map(|(name, n)| formula::<2>(name, [n, 4], device));
                let grid = Grid::new(3, 4, 2, device);
                let whole = relative_attention(formula::<3>("qkv", [2, 14, 24], device) * 2.0, 2, &grid, tables.clone());
                let window = Grid::new(3, 3, 0, device);
                let (qkv, padding) = (formula::<4>("qkv", [2, 5, 4, 24], device) * 2.0, formula::<1>("padding", [24], device));
                (whole, windowed_relative_attention(qkv, padding, 2, &window, tables))
            };
            let (got, want) = (through(&Device::flex()), through(&Device::flex().autodiff()));
            assert_eq!((got.0.dims(), got.1.dims()), ([2, 14, 8], [2, 5, 4, 8]));
            assert_close(got.0, want.0.inner(), 1e-5);
            assert_close(got.1, want.1.inner(), 1e-5);
        }
    }

    /// Padding takes part: with another padding, windows that the image does not fill change and the others do not.
    #[test]
    fn padding_takes_part_in_windows() {
        let device = Device::flex();
        let tables = || [formula::<2>("h", [5, 4], &device), formula::<2>("w", [5, 4], &device)];
        let (qkv, grid) = (formula::<4>("qkv", [1, 3, 5, 12], &device), Grid::new(3, 3, 0, &device));
        let with = |value: f32| {
            let padding = Tensor::full([12], value, &device);
            windowed_relative_attention(qkv.clone(), padding, 1, &grid, tables())
        };
        let change = (with(0.5) - with(-0.5)).abs();
        assert_eq!(change.clone().narrow(2, 0, 3).max().into_scalar::<f32>(), 0.0);
        assert!(change.narrow(2, 3, 2).min().into_scalar::<f32>() > 0.0);
    }
}
