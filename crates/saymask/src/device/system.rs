//! What the system says of drivers and libraries, without loading any of them.

#![cfg_attr(
    not(all(feature = "cuda-nvrtc", feature = "vulkan")),
    allow(dead_code, reason = "each build asks for its own libraries")
)]

use std::path::PathBuf;
use std::process::Command;

/// CubeCL's own choice among the adapters of wgpu.
pub(super) const WGPU_DEFAULT: &str = "CUBECL_WGPU_DEFAULT_DEVICE";

/// Where the loader looks besides its cache and `LD_LIBRARY_PATH`.
const FOLDERS: &[&str] =
    &["/lib64", "/usr/lib64", "/usr/lib", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
/// Where Vulkan's loader finds drivers.
const DRIVERS: &[&str] = &["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
/// Driver of NVIDIA's kernel module, in words.
const NVIDIA: &str = "/proc/driver/nvidia/version";

/// Whether the loader would find one of these libraries, by file name.
pub(super) fn library(names: &[&str]) -> bool {
    let own = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::env::split_paths(&own).chain(FOLDERS.iter().map(PathBuf::from));
    if folders.flat_map(|folder| names.iter().map(move |n| folder.join(n))).any(|path| path.exists()) {
        return true;
    }
    let cached = |program: &str| Command::new(program).arg("-p").output().ok();
    let Some(known) = cached("ldconfig").or_else(|| cached("/sbin/ldconfig")) else { return false };
    String::from_utf8_lossy(&known.stdout).lines().any(|l| names.iter().any(|n| l.split_whitespace().next() == Some(n)))
}

/// NVRTC under the names that CubeCL tries.
pub(super) fn nvrtc() -> bool {
    library(&["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11"])
}

/// CUDA's headers, where CubeCL looks for them in this order: the first place that exists counts, right or wrong.
pub(super) fn cuda_headers() -> Result<(), String> {
    let own = std::env::var_os("CUDA_PATH").map(PathBuf::from);
    let usual = ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from).into_iter().find(|p| p.exists());
    let package = || PathBuf::from("/usr/bin/nvcc").exists().then(|| PathBuf::from("/usr"));
    let Some(place) = own.or(usual).or_else(package) else {
        return Err("neither CUDA_PATH nor /usr/local/cuda nor /opt/cuda is there".into());
    };
    let header = place.join("include/cuda_fp16.h");
    if header.exists() { Ok(()) } else { Err(format!("{} is missing", header.display())) }
}

/// Whether NVIDIA's kernel module is loaded.
pub(super) fn nvidia_module() -> bool {
    std::path::Path::new(NVIDIA).exists()
}

/// Names of Vulkan's installed drivers.
pub(super) fn vulkan_drivers() -> Vec<String> {
    let entries = DRIVERS.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let mut names: Vec<String> =
        entries.filter_map(|e| Some(e.ok()?.path().file_stem()?.to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

/// The driver behind a device, for figures: what the system says, or nothing.
pub fn driver(kind: super::Kind) -> Option<String> {
    let nvidia = || {
        let text = std::fs::read_to_string(NVIDIA).ok()?;
        Some(text.lines().next()?.trim_start_matches("NVRM version:").split_whitespace().collect::<Vec<_>>().join(" "))
    };
    match kind {
        super::Kind::Cpu => None,
        super::Kind::Cuda => nvidia(),
        _ => nvidia().or_else(|| {
            let found = vulkan_drivers();
            (!found.is_empty()).then(|| format!("Vulkan: {}", found.join(", ")))
        }),
    }
}
