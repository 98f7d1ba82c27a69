//! Selecting rows of a tensor by number: an image's features for each of its sentences.

use burn::tensor::{Int, Tensor, TensorData};

/// Row `rows[q]` of the first axis for each q; nothing is copied where that is q itself or where there is but one row.
///
/// # Shapes
/// [B, ...] -> [Q, ...]; numbers are below B
pub fn select_rows<const D: usize>(x: Tensor<D>, rows: &[usize]) -> Tensor<D> {
    if x.dims()[0] == rows.len() && rows.iter().enumerate().all(|(place, &row)| place == row) {
        return x;
    }
    if x.dims()[0] == 1 {
        let mut shape = x.dims();
        shape[0] = rows.len();
        return x.expand(shape);
    }
    let numbers: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let numbers = Tensor::<1, Int>::from_data(TensorData::new(numbers, [rows.len()]), &x.device());
    x.select(0, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn rows_come_in_the_order_asked() {
        let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &Device::flex());
        let read = |rows: &[usize]| select_rows(x.clone(), rows).into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(read(&[1, 0, 1]), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(read(&[0, 1]), [1.0, 2.0, 3.0, 4.0]);
        let one = select_rows(x.clone().narrow(0, 1, 1), &[0, 0]);
        assert_eq!(one.into_data().iter::<f32>().collect::<Vec<_>>(), [3.0, 4.0, 3.0, 4.0]);
    }
}
