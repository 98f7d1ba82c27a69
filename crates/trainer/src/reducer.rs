//! Gradients summed over ranks, in buckets that travel while the backward pass goes on.
//!
//! Burn gives gradients at the end of a backward pass, so the pass is cut at the blocks of the encoders
//! ([`nn_ops::recompute::in_parts`]): what comes out of one piece is final unless an earlier block uses the same parameter. The
//! first step learns after which piece each parameter is final; from then on a bucket travels as soon as its last parameter is.
//! Should a gradient come later than in the first step, the ranks notice together and add it by itself.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use ranks::{RankError, Ranks, Residual, Sums, all_reduce_sum};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::world::World;
use run_config::Precision;

/// A trained parameter.
struct Slot {
    id: ParamId,
    elements: usize,
    /// The bucket in which it travels.
    bucket: usize,
}

/// Parameters that travel together.
struct Bucket {
    slots: Vec<usize>,
    /// The piece of the backward pass after which all of them are final.
    ready_after: usize,
    residual: Residual,
}

/// What a bucket's journey takes and gives back.
struct Load {
    bucket: usize,
    values: Vec<f32>,
    residual: Residual,
    sent: Result<(), RankError>,
}

/// What every rank tells the others at the end of a step. Floats travel as bits, for JSON has no infinities.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct StepMessage {
    /// The loss of this rank's items, weighted by their share.
    pub(crate) loss: u64,
    /// Its terms, likewise.
    pub(crate) terms: Vec<(String, u64)>,
    /// What could not be read.
    pub(crate) unreadable: Vec<String>,
    /// Which parameters have a gradient.
    present: Vec<bool>,
    /// Buckets that left before all of their gradients were there.
    late: Vec<bool>,
}

impl StepMessage {
    /// Loss and terms of this rank, and what it could not read.
    pub(crate) fn new(loss: f64, terms: &[(&str, f64)], unreadable: Vec<String>) -> Self {
        let terms = terms.iter().map(|(name, value)| ((*name).to_owned(), value.to_bits())).collect();
        Self { loss: loss.to_bits(), terms, unreadable, ..Self::default() }
    }
}

/// Sums gradients over ranks.
pub(crate) struct Reducer {
    world: World,
    exchange: Precision,
    device: Device,
    slots: Vec<Slot>,
    index: HashMap<ParamId, usize>,
    buckets: Vec<Bucket>,
    planned: bool,
    traffic: Traffic,
    // of the step that goes on
    sums: Vec<Option<Tensor<1>>>,
    late: Vec<Option<Tensor<1>>>,
    present: Vec<bool>,
    last_piece: Vec<usize>,
    sent: usize,
    early: usize,
    failed: Option<TrainError>,
}

impl Reducer {
    /// For the trained parameters of `net`, in the module's order.
    pub(crate) fn new<M: Module>(world: &World, exchange: Precision, net: &M, device: &Device) -> Self {
        struct Trained(Vec<Slot>);
        impl ModuleVisitor for Trained {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
                    self.0.push(Slot { id: param.id, elements: param.val().shape().num_elements(), bucket: 0 });
                }
            }
        }
        let mut trained = Trained(Vec::new());
        net.visit(&mut trained);
        let slots = trained.0;
        let (count, index) = (slots.len(), slots.iter().enumerate().map(|(i, slot)| (slot.id, i)).collect());
        let mut reducer = Self {
            world: world.clone(),
            exchange,
            device: device.clone().without_autodiff(),
            slots,
            index,
            buckets: Vec::new(),
            planned: false,
            traffic: Traffic::new(world.ranks()),
            sums: Vec::new(),
            late: Vec::new(),
            present: Vec::new(),
            last_piece: Vec::new(),
            sent: 0,
            early: 0,
            failed: None,
        };
        reducer.plan(&vec![usize::MAX; count]);
        reducer.clear();
        reducer
    }

    /// Puts parameters into buckets: those that are final early first, and the last of the module before the first.
    fn plan(&mut self, final_after: &[usize]) {
        let mut order: Vec<usize> = (0..self.slots.len()).rev().collect();
        order.sort_by_key(|slot| final_after[*slot]);
        self.buckets.clear();
        let mut room = 0;
        for slot in order {
            let elements = self.slots[slot].elements;
            if self.buckets.is_empty() || elements > room {
                self.buckets.push(Bucket { slots: Vec::new(), ready_after: 0, residual: Residual::default() });
                room = self.world.bucket();
            }
            room = room.saturating_sub(elements);
            self.slots[slot].bucket = self.buckets.len() - 1;
            if let Some(bucket) = self.buckets.last_mut() {
                bucket.slots.push(slot);
                bucket.ready_after = bucket.ready_after.max(final_after[slot]);
            }
        }
    }

    fn clear(&mut self) {
        let count = self.slots.len();
        (self.sums, self.late) = (vec![None; count], vec![None; count]);
        (self.present, self.last_piece) = (vec![false; count], vec![0; count]);
        (self.sent, self.early) = (0, 0);
    }

    /// Buckets of the last step that travelled before its backward pass had ended, and all of them.
    #[cfg(test)]
    pub(crate) fn overlapped(&self) -> (usize, usize) {
        (self.early, self.buckets.len())
    }

    /// Adds what a piece of a backward pass found. `piece` counts the pieces of the step's last backward pass, before which no
    /// bucket travels.
    pub(crate) fn add<M: Module>(&mut self, net: &M, mut grads: GradientsParams, piece: Option<usize>) {
        struct Taker<'a> {
            reducer: &'a mut Reducer,
            grads: &'a mut GradientsParams,
            piece: usize,
        }
        impl ModuleVisitor for Taker<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let Some(slot) = self.reducer.index.get(&param.id).copied() else { return };
                let Some(grad) = self.grads.remove::<D>(param.id) else { return };
                let elements = self.reducer.slots[slot].elements;
                self.reducer.put(slot, grad.reshape([elements]), self.piece);
            }
        }
        net.visit(&mut Taker { reducer: self, grads: &mut grads, piece: piece.unwrap_or_default() });
        let Some(piece) = piece.filter(|_| self.planned && self.world.ranks().overlaps()) else { return };
        while self.buckets.get(self.sent).is_some_and(|bucket| bucket.ready_after <= piece) {
            self.send();
            self.early += 1;
        }
    }

    fn put(&mut self, slot: usize, grad: Tensor<1>, piece: usize) {
        self.present[slot] = true;
        self.last_piece[slot] = piece;
        let of = if self.slots[slot].bucket < self.sent { &mut self.late } else { &mut self.sums };
        of[slot] = Some(match of[slot].take() {
            Some(sum) => sum + grad,
            None => grad,
        });
    }

    /// Lets the next bucket go.
    fn send(&mut self) {
        let bucket = self.sent;
        self.sent += 1;
        match self.values(bucket, false) {
            Ok(values) => {
                let residual = std::mem::take(&mut self.buckets[bucket].residual);
                self.traffic.send(Load { bucket, values, residual, sent: Ok(()) }, self.exchange);
            }
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
    }

    /// A bucket's gradients on the host, 0 where a parameter has none.
    fn values(&mut self, bucket: usize, late: bool) -> Result<Vec<f32>, TrainError> {
        let from = if late { &mut self.late } else { &mut self.sums };
        let slots = &self.buckets[bucket].slots;
        let tensors = slots.iter().map(|slot| {
            let zeros = || Tensor::zeros([self.slots[*slot].elements], &self.device);
            from[*slot].take().unwrap_or_else(zeros)
        });
        let lost = |e| TrainError::Device { what: "gradients", reason: format!("{e}") };
        Tensor::cat(tensors.collect(), 0).try_into_vec_as::<f32>().map_err(lost)
    }

    /// The sums over all ranks, when the last backward pass of a step is done, and what every rank says of the step.
    pub(crate) fn finish<M: Module>(
        &mut self,
        net: &M,
        mut message: StepMessage,
    ) -> Result<(GradientsParams, Vec<StepMessage>), TrainError> {
        while self.sent < self.buckets.len() {
            self.send();
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let is_late = |bucket: &Bucket| bucket.slots.iter().any(|slot| self.late[*slot].is_some());
        message.late = self.buckets.iter().map(is_late).collect();
        message.present = std::mem::take(&mut self.present);
        let all = self.world.gather(message)?;
        let (ranks, mut sums) = (self.world.ranks().clone(), vec![Vec::new(); self.buckets.len()]);
        for load in self.traffic.arrived(self.buckets.len(), self.exchange)? {
            load.sent?;
            self.buckets[load.bucket].residual = load.residual;
            sums[load.bucket] = load.values;
        }
        for (bucket, sums) in sums.iter_mut().enumerate() {
            if all.iter().any(|one| one.late.get(bucket) == Some(&true)) {
                let mut late = self.values(bucket, true)?;
                all_reduce_sum(&*ranks, &mut late, &mut Sums::F32)?;
                sums.iter_mut().zip(late).for_each(|(sum, value)| *sum += value);
            }
        }
        let present: Vec<bool> =
            (0..self.slots.len()).map(|slot| all.iter().any(|one| one.present.get(slot) == Some(&true))).collect();
        let grads = self.given(net, &sums, &present);
        if !self.planned {
            let last_piece = self.world.from_first(std::mem::take(&mut self.last_piece))?;
            self.plan(&last_piece);
            self.planned = true;
        }
        let early = self.early;
        self.clear();
        self.early = early;
        Ok((grads, all))
    }

    /// Sums as the gradients of the parameters that have one on any rank.
    fn given<M: Module>(&self, net: &M, sums: &[Vec<f32>], present: &[bool]) -> GradientsParams {
        struct Giver<'a> {
            reducer: &'a Reducer,
            values: HashMap<usize, &'a [f32]>,
            grads: GradientsParams,
        }
        impl ModuleVisitor for Giver<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let slot = self.reducer.index.get(&param.id);
                let Some(values) = slot.and_then(|slot| self.values.get(slot)) else { return };
                let data = TensorData::new(values.to_vec(), param.val().dims());
                self.grads.register(param.id, Tensor::<D>::from_data(data, &self.reducer.device));
            }
        }
        let mut values = HashMap::new();
        for (bucket, sums) in self.buckets.iter().zip(sums) {
            let mut rest = &sums[..];
            for slot in &bucket.slots {
                let (own, more) = rest.split_at(self.slots[*slot].elements.min(rest.len()));
                rest = more;
                if present[*slot] {
                    values.insert(*slot, own);
                }
            }
        }
        let mut giver = Giver { reducer: self, values, grads: GradientsParams::new() };
        net.visit(&mut giver);
        giver.grads
    }
}

/// To and from the thread that exchanges buckets.
type Worker = (Sender<(Load, Precision)>, Receiver<Load>);

/// Buckets on their way, on a thread of its own where the transport allows it.
struct Traffic {
    ranks: Arc<dyn Ranks>,
    worker: Option<Worker>,
    queue: VecDeque<Load>,
}

impl Traffic {
    fn new(ranks: &Arc<dyn Ranks>) -> Self {
        let worker = ranks.overlaps().then(|| {
            let (jobs, todo) = channel::<(Load, Precision)>();
            let (finished, done) = channel();
            let ranks = ranks.clone();
            std::thread::spawn(move || {
                // Ends when the reducer is gone.
                for (load, exchange) in todo {
                    if finished.send(travel(&*ranks, load, exchange)).is_err() {
                        return;
                    }
                }
            });
            (jobs, done)
        });
        Self { ranks: ranks.clone(), worker, queue: VecDeque::new() }
    }

    fn send(&mut self, load: Load, exchange: Precision) {
        match &self.worker {
            // A worker that is gone is noticed when its answer is missing.
            Some((jobs, _)) => drop(jobs.send((load, exchange))),
            None => self.queue.push_back(load),
        }
    }

    /// The next `count` buckets that were sent, in their order.
    fn arrived(&mut self, count: usize, exchange: Precision) -> Result<Vec<Load>, RankError> {
        let gone = || RankError::Transport { what: "the thread that exchanges gradients has ended".into() };
        let next = |_| match &self.worker {
            Some((_, done)) => done.recv().map_err(|_| gone()),
            None => self.queue.pop_front().map(|load| travel(&*self.ranks, load, exchange)).ok_or_else(gone),
        };
        (0..count).map(next).collect()
    }
}

fn travel(ranks: &dyn Ranks, mut load: Load, exchange: Precision) -> Load {
    let mut sums = match exchange {
        Precision::F32 => Sums::F32,
        Precision::Bf16 => Sums::Bf16(&mut load.residual),
    };
    load.sent = all_reduce_sum(ranks, &mut load.values, &mut sums);
    load
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use burn::nn::{Linear, LinearConfig};

    use super::*;

    fn layers() -> Vec<Linear> {
        let device = Device::flex().autodiff();
        let layers: Vec<Linear> = (0..3).map(|_| LinearConfig::new(2, 2).with_bias(false).init(&device)).collect();
        // The same identities on every rank, as a run's names give them.
        let named = layers.into_iter().enumerate().map(|(i, layer)| {
            let (_, value, mapper) = layer.weight.consume();
            Linear { weight: Param::from_mapped_value(ParamId::from(i as u64 + 1), value, mapper), bias: None }
        });
        named.collect()
    }

    /// A step whose backward pass has the given gradients, per piece pairs of a layer and a value; what comes out per layer.
    fn step(reducer: &mut Reducer, layers: &Vec<Linear>, pieces: &[&[(usize, f32)]]) -> [Option<f32>; 3] {
        for (piece, found) in pieces.iter().enumerate() {
            let mut grads = GradientsParams::new();
            for (layer, value) in *found {
                grads.register(layers[*layer].weight.id, Tensor::<2>::full([2, 2], *value, &Device::flex()));
            }
            reducer.add(layers, grads, Some(piece));
        }
        let (grads, all) = reducer.finish(layers, StepMessage::new(1.0, &[], Vec::new())).unwrap();
        assert_eq!(all.len(), 2);
        [0, 1, 2].map(|i| {
            let grad = grads.get::<2>(layers[i].weight.id)?;
            assert_eq!(grad.dims(), [2, 2]);
            Some(grad.into_data().iter::<f32>().next().unwrap())
        })
    }

    #[test]
    fn buckets_travel_early_and_late_gradients_arrive() {
        ranks::local::run(2, Duration::from_secs(20), |rank| {
            let own = rank.rank() as f32;
            // A bucket per layer.
            let world = World::new(Arc::new(rank)).with_bucket(4);
            let layers = layers();
            let mut reducer = Reducer::new(&world, Precision::F32, &layers, &Device::flex().autodiff());
            let usual: [&[_]; 3] = [&[(2, 1.0 + own)], &[(1, 10.0 + own)], &[(0, 100.0 + own)]];
            let want = [Some(201.0), Some(21.0), Some(3.0)];
            assert_eq!(step(&mut reducer, &layers, &usual), want);
            assert_eq!(reducer.overlapped(), (0, 3), "the first step learns when gradients are final");
            assert_eq!(step(&mut reducer, &layers, &usual), want);
            assert_eq!(reducer.overlapped(), (3, 3));
            // On one rank, a gradient that left already grows in the last piece.
            let late: [&[_]; 3] = [usual[0], usual[1], &[(0, 100.0), (2, 1000.0 * own)]];
            assert_eq!(step(&mut reducer, &layers, &late), [Some(200.0), Some(21.0), Some(1003.0)]);
            // A parameter that one rank does not use, and one that none uses.
            let some: &[_] = if own == 0.0 { &[(2, 5.0)] } else { &[] };
            assert_eq!(step(&mut reducer, &layers, &[some, usual[1]]), [None, Some(21.0), Some(5.0)]);
            assert_eq!(step(&mut reducer, &layers, &usual), want);
        });
    }
}
