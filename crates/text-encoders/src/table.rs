//! Token embedding tables, on the device or on the host.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use nn_ops::weights::{StateDict, WeightsError};

use crate::layers::normal;
use crate::{TextBatch, TextError};

/// A table in host memory; clones share it.
#[derive(Clone)]
struct HostRows(Arc<Vec<f32>>);

impl std::fmt::Debug for HostRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} numbers on the host", self.0.len())
    }
}

/// A token embedding table.
///
/// A table larger than a device's buffer limit (BEiT-3 large: 262 MB, WebGPU's guaranteed limit: 134 MB) stays on the
/// host: its rows are gathered there and only they travel. Such a table is fixed; it receives no gradient.
#[derive(Module, Debug)]
pub struct TokenTable {
    weight: Option<Param<Tensor<2>>>,
    #[module(skip)]
    host: Option<HostRows>,
    rows: usize,
    width: usize,
}

impl TokenTable {
    /// A fresh table on `device`.
    pub fn new(rows: usize, width: usize, std: f64, device: &Device) -> Self {
        Self { weight: Some(normal(std).init([rows, width], device)), host: None, rows, width }
    }

    /// Rows of the table: ids must be below.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether rows are gathered on the host.
    pub fn is_on_host(&self) -> bool {
        self.host.is_some()
    }

    /// Bytes of the table in `f32`.
    pub fn bytes(&self) -> u64 {
        4 * self.rows as u64 * self.width as u64
    }

    /// Moves the table to the host if it is larger than `limit` bytes.
    pub fn on_host_above(mut self, limit: Option<u64>) -> Self {
        if limit.is_none_or(|limit| self.bytes() <= limit) {
            return self;
        }
        if let Some(weight) = self.weight.take() {
            let values = weight.val().into_data().iter::<f32>().collect();
            self.host = Some(HostRows(Arc::new(values)));
        }
        self
    }

    /// Takes the table `name` out of `state_dict` to the host if it is larger than `limit` bytes, so that the device
    /// never holds it. Returns whether it did.
    ///
    /// # Errors
    /// When the tensor is absent, of another shape or unreadable.
    pub fn read_to_host(&mut self, state_dict: &StateDict, name: &str, limit: Option<u64>) -> Result<bool, WeightsError> {
        if limit.is_none_or(|limit| self.bytes() <= limit) {
            return Ok(false);
        }
        let wrong = |what: String| WeightsError::Tensor { path: state_dict.path().to_owned(), name: name.to_owned(), what };
        match state_dict.shape(name) {
            Some(shape) if shape == [self.rows, self.width] => {}
            Some(shape) => return Err(wrong(format!("is {shape:?} in the file and {:?} in the model", [self.rows, self.width]))),
            None => return Err(wrong("is missing in the file".into())),
        }
        self.host = Some(HostRows(Arc::new(state_dict.read(name)?)));
        self.weight = None;
        Ok(true)
    }

    /// Looks ids up.
    ///
    /// # Shapes
    /// [Q, T] ids -> [Q, T, C], on the device and in the precision of `like`
    ///
    /// # Errors
    /// When an id has no row.
    pub fn forward(&self, batch: &TextBatch, like: &Tensor<3>) -> Result<Tensor<3>, TextError> {
        batch.check_ids(self.rows)?;
        let device = &like.device();
        let precision = FloatDType::from(like.dtype());
        let shape = [batch.rows(), batch.width(), self.width];
        match (&self.weight, &self.host) {
            (Some(weight), _) => Ok(burn::tensor::module::embedding(weight.val(), batch.ids_tensor(device))),
            (None, Some(HostRows(values))) => {
                let row = |&id: &u32| &values[id as usize * self.width..(id as usize + 1) * self.width];
                let gathered: Vec<f32> = batch.ids().iter().flat_map(row).copied().collect();
                Ok(Tensor::<3>::from_data(TensorData::new(gathered, shape), device).cast(precision))
            }
            (None, None) => Ok(Tensor::zeros(shape, (device, like.dtype()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_device_give_the_same_rows() {
        let device = Device::flex();
        let table = TokenTable::new(9, 4, 1.0, &device);
        let batch = TextBatch::from_padded(&[vec![8, 0, 3], vec![1, 1, 0]], &[3, 2]).unwrap();
        let like = Tensor::<3>::zeros([1, 1, 4], &device);
        let want = table.forward(&batch, &like).unwrap();
        assert_eq!(table.bytes(), 144);
        assert!(!table.clone().on_host_above(Some(144)).is_on_host());
        let hosted = table.on_host_above(Some(143));
        assert!(hosted.is_on_host() && hosted.num_params() == 0);
        let got = hosted.forward(&batch, &like).unwrap();
        assert_eq!(got.into_data(), want.into_data());
        let half = hosted.forward(&batch, &like.cast(FloatDType::BF16)).unwrap();
        assert_eq!(FloatDType::from(half.dtype()), FloatDType::BF16);
    }

    #[test]
    fn an_id_without_a_row_is_an_error() {
        let device = Device::flex();
        let batch = TextBatch::from_padded(&[vec![2, 5]], &[2]).unwrap();
        let error = TokenTable::new(5, 2, 1.0, &device).forward(&batch, &Tensor::zeros([1, 1, 2], &device)).unwrap_err();
        assert!(matches!(error, TextError::IdOutOfRange { id: 5, place: 1, rows: 5, .. }), "{error}");
    }
}
