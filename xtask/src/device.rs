//! `--device`: from a word to a Burn device.

use anyhow::{Result, bail};
use burn::tensor::Device;

/// Opens `cpu`, `cuda[:N]`, `vulkan[:N]`, `metal` or `wgpu[:cpu]`.
pub fn open(word: &str) -> Result<Device> {
    let (kind, index) = match word.split_once(':') {
        Some((kind, index)) => (kind, Some(index)),
        None => (word, None),
    };
    match kind {
        "cpu" => cpu(),
        "cuda" => cuda(number(word, index)?),
        "vulkan" => vulkan(number(word, index)?),
        "metal" => metal(),
        "wgpu" => wgpu(index),
        _ => bail!("--device {word}: unknown device; known are cpu, cuda[:N], vulkan[:N], metal, wgpu[:cpu]"),
    }
}

fn number(word: &str, index: Option<&str>) -> Result<usize> {
    match index.map(str::parse) {
        None => Ok(0),
        Some(Ok(n)) => Ok(n),
        Some(Err(_)) => bail!("--device {word}: what follows the colon must be a number, counted from 0"),
    }
}

#[cfg(feature = "flex")]
fn cpu() -> Result<Device> {
    Ok(Device::flex())
}

#[cfg(not(feature = "flex"))]
fn cpu() -> Result<Device> {
    bail!("--device cpu: this binary was built without it; build with the default features")
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device> {
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device> {
    bail!("--device cuda: this binary was built without it; use `cargo xtask-cuda ...` (feature `cuda`)")
}

#[cfg(feature = "vulkan")]
fn vulkan(index: usize) -> Result<Device> {
    Ok(Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(index)))
}

#[cfg(not(feature = "vulkan"))]
fn vulkan(_: usize) -> Result<Device> {
    bail!("--device vulkan: this binary was built without it; use `cargo xtask-vulkan ...` (feature `vulkan`)")
}

#[cfg(feature = "metal")]
fn metal() -> Result<Device> {
    Ok(Device::metal(burn::tensor::DeviceKind::DefaultDevice))
}

#[cfg(not(feature = "metal"))]
fn metal() -> Result<Device> {
    bail!("--device metal: this binary was built without it; use `cargo xtask-metal ...` (feature `metal`)")
}

#[cfg(any(feature = "webgpu", feature = "vulkan", feature = "metal"))]
fn wgpu(index: Option<&str>) -> Result<Device> {
    use burn::tensor::DeviceKind;
    match index {
        None => Ok(Device::wgpu(DeviceKind::DefaultDevice)),
        Some("cpu") => Ok(Device::wgpu(DeviceKind::Cpu)),
        Some(other) => bail!("--device wgpu:{other}: only wgpu and wgpu:cpu (a software driver) exist"),
    }
}

#[cfg(not(any(feature = "webgpu", feature = "vulkan", feature = "metal")))]
fn wgpu(_: Option<&str>) -> Result<Device> {
    bail!("--device wgpu: this binary was built without it; use `cargo xtask-webgpu ...` (feature `webgpu`)")
}
