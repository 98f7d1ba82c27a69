//! `--device`: from a word to a Burn device, and what this machine and this build can offer.

mod advice;
mod list;
mod probe;
mod system;
mod word;

use std::sync::Once;

use anyhow::{Result, anyhow};
use burn::tensor::Device;

pub use list::{DevicesArgs, run};
pub use probe::identity;
pub use system::driver;
pub use word::{Kind, Pick, Word};

use probe::{Adapter, guarded, probe};

/// What `--help` says of a device.
pub const HELP: &str = "Device: cpu, cuda[:N], vulkan[:N|:cpu], metal[:N], wgpu[:N|:cpu]; `devices` lists them";

/// Whether this build's GPU devices choose among kernels by measuring them, which may round their inputs.
pub const AUTOTUNED: bool = cfg!(any(feature = "cuda", feature = "vulkan", feature = "metal"));

/// Opens the device of a word.
///
/// # Errors
/// A word that names no device, and a device that is not there: why, and what would help.
pub fn open(word: &str) -> Result<Device> {
    let wanted = Word::parse(word)?;
    let adapters = probe(wanted.kind).map_err(|why| anyhow!("--device {word}: {why}"))?;
    let adapter = choose(&wanted, &adapters).map_err(|why| anyhow!("--device {word}: {why}"))?;
    let device = match (&adapter, default_is_named(&wanted)) {
        // Which adapter that is stands in the environment, where CubeCL reads it.
        (_, true) => probe::default_device(wanted.kind).unwrap_or_else(|| adapter.device.clone()),
        _ => adapter.device.clone(),
    };
    // Drivers fail here, by panicking inside CubeCL: at the first client, not at the device's name.
    let name =
        guarded(|| identity(&device)).map_err(|why| anyhow!("--device {word}: {}", advice::unopened(wanted.kind, &why)))?;
    if wanted.kind != Kind::Cpu {
        announce(word, name.as_deref().unwrap_or("unnamed adapter"));
    }
    Ok(device)
}

/// Whether CubeCL's own variable says which adapter of the wgpu family is meant.
fn default_is_named(wanted: &Word) -> bool {
    wanted.pick == Pick::Best && wanted.kind.is_wgpu() && std::env::var_os(system::WGPU_DEFAULT).is_some()
}

/// The adapter that a word means.
fn choose<'a>(wanted: &Word, adapters: &'a [Adapter]) -> Result<&'a Adapter, String> {
    let hardware = || adapters.iter().find(|a| !a.software);
    let software = || adapters.iter().find(|a| a.software);
    match wanted.pick {
        Pick::Number(n) => adapters.get(n).ok_or_else(|| advice::number(wanted.kind, n, adapters.len())),
        Pick::Software => software().ok_or_else(|| advice::no_software(wanted.kind)),
        // SPIR-V crashes inside some software drivers, so one is taken only where its name is said. WGSL runs there.
        Pick::Best if wanted.kind == Kind::Vulkan => hardware().ok_or_else(advice::software_only),
        Pick::Best => hardware().or_else(software).ok_or_else(|| advice::number(wanted.kind, 0, 0)),
    }
}

/// Says once a process what the first steps on a GPU are spent on.
fn announce(word: &str, name: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| crate::note!("{word}: {name}. {}", advice::first_run(AUTOTUNED)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapters(software: &[bool]) -> Vec<Adapter> {
        let device = || Device::flex();
        let one = |(n, s): (usize, &bool)| Adapter { word: format!("x:{n}"), sort: "", software: *s, device: device() };
        software.iter().enumerate().map(one).collect()
    }

    fn chosen(word: &str, software: &[bool]) -> Result<String, String> {
        choose(&Word::parse(word).unwrap(), &adapters(software)).map(|a| a.word.clone())
    }

    #[test]
    fn the_best_adapter_is_hardware_and_numbers_are_the_lists() {
        assert_eq!(chosen("wgpu", &[true, false]).unwrap(), "x:1");
        assert_eq!(chosen("wgpu", &[true]).unwrap(), "x:0");
        assert_eq!(chosen("wgpu:cpu", &[false, true]).unwrap(), "x:1");
        assert_eq!(chosen("wgpu:0", &[true, false]).unwrap(), "x:0");
        assert_eq!(chosen("vulkan:cpu", &[true]).unwrap(), "x:0");
        assert_eq!(chosen("vulkan", &[true, false, false]).unwrap(), "x:1");
        assert!(chosen("vulkan", &[true]).unwrap_err().contains("vulkan:cpu"));
        assert!(chosen("wgpu:2", &[false]).unwrap_err().contains("1 adapter"), "{:?}", chosen("wgpu:2", &[false]));
        assert!(chosen("wgpu:cpu", &[false]).unwrap_err().contains("mesa-vulkan-drivers"));
        assert!(chosen("cuda:1", &[false]).unwrap_err().contains("1 adapter"));
    }

    #[test]
    fn what_is_not_built_in_says_how_to_build_it() {
        for (word, alias) in [("cuda", "xtask-cuda"), ("vulkan:1", "xtask-vulkan"), ("wgpu:cpu", "xtask-webgpu")] {
            let built = match Word::parse(word).unwrap().kind {
                Kind::Cuda => cfg!(feature = "cuda"),
                Kind::Vulkan => cfg!(feature = "vulkan"),
                _ => cfg!(any(feature = "webgpu", feature = "vulkan", feature = "metal")),
            };
            if !built {
                let message = open(word).unwrap_err().to_string();
                assert!(message.starts_with(&format!("--device {word}: ")) && message.contains(alias), "{message}");
            }
        }
        assert!(!cfg!(feature = "flex") || open("cpu").is_ok());
    }
}
