//! Clocks and scales that benchmarks share.

use std::time::Instant;

use anyhow::{Result, bail};
use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor};
use clap::ValueEnum;
use nn_ops::linear::{self, Epilogue};
use serde::{Deserialize, Serialize};

/// Largest side of a product that looks for the peak.
const LARGEST: usize = 8192;
/// Products in a row, so that waiting for the device does not count.
const ROW: u32 = 4;
/// Seconds of such a row after which larger ones are not tried.
const LONG: f64 = 0.5;

/// Numbers that a peak is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    /// 32 bits; TF32 inside tensor cores where the device's kernels choose them.
    F32,
    /// 16 bits with the exponent of 32.
    Bf16,
    /// 16 bits.
    F16,
}

impl Precision {
    fn dtypes(self) -> (DType, FloatDType) {
        match self {
            Self::F32 => (DType::F32, FloatDType::F32),
            Self::Bf16 => (DType::BF16, FloatDType::BF16),
            Self::F16 => (DType::F16, FloatDType::F16),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

/// The fastest product of square matrices found.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Peak {
    /// Numbers.
    pub precision: Precision,
    /// Side of the matrices.
    pub side: usize,
    /// Operations a second, two a multiplication with its addition.
    pub flops: f64,
}

impl Peak {
    /// In words.
    pub(crate) fn line(&self) -> String {
        let (value, unit) = if self.flops >= 1e12 { (self.flops / 1e12, "TFLOP/s") } else { (self.flops / 1e9, "GFLOP/s") };
        format!(
            "Matrix peak: {value:.1} {unit}, the fastest square {} product found in the same run (side {}). \"Of peak\" counts the \
             products of the image encoders only.",
            self.precision.name(),
            self.side
        )
    }
}

/// Looks for the fastest product, from small ones to ones that take long.
pub(crate) fn matrix_peak(device: &Device, precision: Precision) -> Result<Peak> {
    let (stored, wanted) = precision.dtypes();
    if !device.supports_dtype(stored) {
        bail!("--peak {}: this device cannot compute in it", precision.name());
    }
    let mut best = Peak { precision, side: 0, flops: 0.0 };
    let mut side = 512;
    while side <= LARGEST {
        let make = || Tensor::<2>::random([side, side], Distribution::Uniform(-0.1, 0.1), device).cast(wanted);
        let (left, right) = (make(), make());
        let mut seconds = f64::INFINITY;
        for round in 0..5 {
            device.sync()?;
            let begun = Instant::now();
            let mut product = right.clone();
            for _ in 0..ROW {
                product = linear::product(left.clone(), product, None, Epilogue::None);
            }
            device.sync()?;
            let took = begun.elapsed().as_secs_f64();
            drop(product);
            // The first round compiles and chooses kernels.
            if round > 0 {
                seconds = seconds.min(took);
            }
            if round > 1 && took > LONG {
                break;
            }
        }
        let flops = f64::from(ROW) * 2.0 * (side as f64).powi(3) / seconds;
        if flops > best.flops {
            best = Peak { precision, side, flops };
        }
        if seconds > LONG {
            break;
        }
        side *= 2;
    }
    device.memory_cleanup();
    Ok(best)
}

/// The most memory that was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Largest resident size of the process, where the system tells.
    pub host_bytes: Option<u64>,
    /// Largest reserve of the device's memory pools, where the device has such.
    pub device_bytes: Option<u64>,
}

impl Memory {
    /// Looks again. Pools keep what they were given, so looking between passes misses nothing that stays reserved.
    pub(crate) fn note(&mut self, device: &Device) {
        self.host_bytes = self.host_bytes.max(status("VmHWM:"));
        self.device_bytes = self.device_bytes.max(device.memory_pool_usage().map(|p| p.bytes_reserved));
    }

    /// What the tables show: the device's where it has memory of its own, else the process's.
    pub(crate) fn cell(&self) -> String {
        self.device_bytes.or(self.host_bytes).map_or_else(|| "?".into(), |b| format!("{:.2}", b as f64 / 1e9))
    }

    /// What that number is.
    pub(crate) fn says(&self) -> &'static str {
        if self.device_bytes.is_some() {
            "what the device's memory pools reserved"
        } else {
            "the process's largest resident size"
        }
    }
}

/// A size of this process in bytes, from Linux.
pub(crate) fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|l| l.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Load of the machine over one minute.
pub(crate) fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// The middle of the values; NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Seconds of work on a device, which is idle before and after.
pub(crate) fn timed<T>(device: &Device, work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    device.sync()?;
    let begun = Instant::now();
    let done = work()?;
    device.sync()?;
    Ok((begun.elapsed().as_secs_f64(), done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_found_and_memory_is_seen() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (2.0, 2.5));
        let device = Device::flex();
        let (seconds, value) = timed(&device, || Ok(7)).unwrap();
        assert!(seconds >= 0.0 && value == 7);
        let mut memory = Memory::default();
        memory.note(&device);
        assert!(!cfg!(target_os = "linux") || memory.host_bytes.is_some_and(|b| b > 1 << 20), "{memory:?}");
        let line = Peak { precision: Precision::F32, side: 2048, flops: 2.65e11 }.line();
        assert!(line.contains("265.0 GFLOP/s") && line.contains("side 2048"), "{line}");
    }
}
