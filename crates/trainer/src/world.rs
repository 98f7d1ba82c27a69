//! The ranks that train or judge together, as a run sees them.

use std::ops::Range;
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use nn_ops::synchronised::Gather;
use ranks::{Patience, RankError, Ranks, Single};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::TrainError;

/// Values of a bucket of gradients: 16 MiB in f32. Larger ones wait longer for their first value, smaller ones cost more messages.
const BUCKET: usize = 4 << 20;

/// The ranks of a run. Every rank calls the same methods in the same order.
#[derive(Debug, Clone)]
pub struct World {
    ranks: Arc<dyn Ranks>,
    bucket: usize,
}

impl Default for World {
    /// This process alone.
    fn default() -> Self {
        Self::new(Arc::new(Single))
    }
}

impl World {
    /// The ranks of a transport.
    #[must_use]
    pub fn new(ranks: Arc<dyn Ranks>) -> Self {
        Self { ranks, bucket: BUCKET }
    }

    /// Gradients are exchanged in buckets of `values` values, as soon as a bucket is full. Sums do not depend on it.
    #[must_use]
    pub fn with_bucket(self, values: usize) -> Self {
        Self { bucket: values.max(1), ..self }
    }

    /// The transport.
    #[must_use]
    pub fn ranks(&self) -> &Arc<dyn Ranks> {
        &self.ranks
    }

    /// Values of a bucket of gradients.
    #[must_use]
    pub fn bucket(&self) -> usize {
        self.bucket
    }

    /// This process's number, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.ranks.rank()
    }

    /// The number of ranks.
    #[must_use]
    pub fn size(&self) -> usize {
        self.ranks.size()
    }

    /// Whether there is one rank only.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.size() <= 1
    }

    /// Whether this is rank 0, which writes what a run leaves behind.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// This rank's contiguous part of `count` things.
    #[must_use]
    pub fn part(&self, count: usize) -> Range<usize> {
        ranks::part(count, self.rank(), self.size())
    }

    /// Runs `work` on one rank after the other, as long as it takes: what the first one prepares in a shared folder, the others
    /// find there.
    ///
    /// # Errors
    /// Those of `work`, and of the transport.
    pub fn in_turn<T, E: From<RankError>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        ranks::in_turn(&*self.ranks, work)
    }

    /// Waits for all ranks.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn wait(&self) -> Result<(), TrainError> {
        Ok(ranks::barrier(&*self.ranks, Patience::Deadline)?)
    }

    /// Rank 0's value on every rank.
    ///
    /// # Errors
    /// Those of the transport, and a value that another program sent.
    pub fn from_first<T: Serialize + DeserializeOwned>(&self, value: T) -> Result<T, TrainError> {
        if self.is_alone() {
            return Ok(value);
        }
        decode(&ranks::broadcast(&*self.ranks, Patience::Deadline, encode(&value)?)?)
    }

    /// The values of all ranks, in their order.
    ///
    /// # Errors
    /// Those of the transport, and a value that another program sent.
    pub fn gather<T: Serialize + DeserializeOwned>(&self, value: T) -> Result<Vec<T>, TrainError> {
        if self.is_alone() {
            return Ok(vec![value]);
        }
        ranks::gather(&*self.ranks, Patience::Deadline, encode(&value)?)?.iter().map(|message| decode(message)).collect()
    }

    /// Checks that all ranks have the same; `what` it is goes into the error.
    ///
    /// # Errors
    /// [`RankError::Differs`], and those of the transport.
    pub fn agree(&self, what: &str, value: &[u8]) -> Result<(), TrainError> {
        if self.is_alone() {
            return Ok(());
        }
        Ok(ranks::agree(&*self.ranks, what, Sha256::digest(value).to_vec())?)
    }

    /// Checks that all ranks hold the same trained weights, to the bit.
    ///
    /// # Errors
    /// As [`World::agree`].
    pub fn agree_on_weights<M: Module>(&self, net: &M) -> Result<(), TrainError> {
        struct Sum(Sha256);
        impl ModuleVisitor for Sum {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
                    self.0.update(param.val().inner().into_data().as_bytes());
                }
            }
        }
        if self.is_alone() {
            return Ok(());
        }
        let mut sum = Sum(Sha256::new());
        net.visit(&mut sum);
        self.agree("set of weights", &sum.0.finalize())
    }

    /// How batch norms gather their statistics.
    #[must_use]
    pub fn statistics(&self) -> Arc<Gather> {
        let ranks = self.ranks.clone();
        Arc::new(move |values: Vec<f64>| {
            let count = values.len();
            let message = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let all = ranks::gather(&*ranks, Patience::Deadline, message).ok()?;
            let read = |message: Vec<u8>| -> Vec<f64> {
                message.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
            };
            let all: Vec<Vec<f64>> = all.into_iter().map(read).collect();
            all.iter().all(|one| one.len() == count).then_some(all)
        })
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, TrainError> {
    serde_json::to_vec(value).map_err(|e| RankError::Transport { what: format!("a message cannot be written: {e}") }.into())
}

fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, TrainError> {
    let wrong = |e| RankError::Transport { what: format!("a message of another program, or another version of it: {e}") };
    Ok(serde_json::from_slice(message).map_err(wrong)?)
}
