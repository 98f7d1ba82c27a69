//! Decomposed relative position without a bias tensor.
//!
//! SAM adds `rel_h(q) + rel_w(q)` to the logits, where `rel_h(q)[(y, x), (ky, kx)] = q[y, x] . T_h[y - ky + h - 1]` and
//! likewise for columns. The same logits come from wider vectors, `q' = [s q | rel_h(q) | rel_w(q)]` and
//! `k' = [k | onehot(ky) | onehot(kx)]`, so plain attention serves and no N x N bias exists. Tokens in front of the
//! image (text) have zeros in the added slots and thus no positional term. On the CPU outside of training, attention of
//! our own adds the two terms as it goes instead ([`nn_ops::host`]).

use burn::tensor::{Device, Tensor, TensorData};
use nn_ops::host::{Group, Relative, Token};
use nn_ops::resize::Resize;

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
        let wide = width + self.height + self.width;
        // Attention will divide by sqrt(wide); the queries already carry SAM's 1 / sqrt(D) instead.
        let undo = (wide as f64).sqrt();
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

    /// The tables as the CPU's own attention takes them, which needs no wider vectors.
    pub(crate) fn relative(&self, table_h: Tensor<2>, table_w: Tensor<2>) -> Relative {
        let [rows, columns] = [(table_h, self.height), (table_w, self.width)].map(|(t, n)| Resize::BILINEAR.rows(t, 2 * n - 1));
        Relative::new(rows, columns)
    }

    /// All tokens of each of `batch` images, one group an image.
    pub(crate) fn whole(&self, batch: usize) -> Vec<Group> {
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
