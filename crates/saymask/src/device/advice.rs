//! Why a device is missing, and what to do about it: one place for all such sentences.

#![cfg_attr(
    not(all(feature = "cuda-nvrtc", feature = "vulkan")),
    allow(dead_code, reason = "each build has its own devices to miss")
)]

use super::word::Kind;

/// It was not compiled.
pub(super) fn not_built(kind: Kind) -> String {
    let how = match kind {
        Kind::Cpu => "build with the default features (feature `flex`)",
        Kind::Cuda => {
            "use `cargo xtask-cuda ...` (feature `cuda`), or `tools/cuda-nvrtc.sh run -- ...` where LLVM cannot be downloaded"
        }
        Kind::Vulkan => "use `cargo xtask-vulkan ...` (feature `vulkan`)",
        Kind::Metal => "use `cargo xtask-metal ...` (feature `metal`)",
        Kind::Wgpu => "use `cargo xtask-webgpu ...` (feature `webgpu`)",
    };
    format!("not built in; {how}")
}

/// What the system has for CUDA.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cuda {
    /// `libcuda.so.1` would be found.
    pub library: bool,
    /// The kernel module is loaded.
    pub module: bool,
}

/// CUDA is built in and lists nothing.
pub(super) fn no_cuda(found: Cuda) -> String {
    match (found.library, found.module) {
        (false, false) => {
            "no NVIDIA driver: libcuda.so.1 is not found and the kernel module is not loaded; install NVIDIA's driver, \
                           in a container start it with the GPU passed through (--gpus all)"
                .into()
        }
        (false, true) => "the kernel module is loaded but libcuda.so.1 is not found; install the driver's libraries (Debian: \
                          libcuda1) or add their folder to LD_LIBRARY_PATH"
            .into(),
        (true, false) => {
            "libcuda.so.1 is found but NVIDIA's kernel module is not loaded; load it (modprobe nvidia), in a container \
                          start it with the GPU passed through (--gpus all)"
                .into()
        }
        (true, true) => "the driver lists no GPU; see `nvidia-smi`, and whether CUDA_VISIBLE_DEVICES hides it".into(),
    }
}

/// CUDA C++ cannot be compiled at run time.
pub(super) fn no_nvrtc(library: bool, headers: Result<(), String>) -> Option<String> {
    let mut missing = Vec::new();
    if !library {
        missing.push(
            "libnvrtc.so is not found (a CUDA toolkit, or the package nvidia-cuda-nvrtc with its folder in LD_LIBRARY_PATH)"
                .into(),
        );
    }
    if let Err(why) = headers {
        missing.push(format!("CUDA's headers are not found: {why} (set CUDA_PATH to a toolkit)"));
    }
    (!missing.is_empty()).then(|| format!("this build compiles its kernels with NVRTC, but {}", missing.join("; and ")))
}

/// Vulkan, or wgpu on top of it, is built in and lists nothing.
pub(super) fn no_vulkan(loader: bool, drivers: &[String]) -> String {
    if !loader {
        return "no Vulkan loader (libvulkan.so.1); install it (Debian: libvulkan1, Fedora: vulkan-loader, Arch: vulkan-icd-loader) \
                and your GPU's driver (AMD, Intel: mesa-vulkan-drivers; NVIDIA: its own)"
            .into();
    }
    let known = if drivers.is_empty() { "none is installed".to_owned() } else { format!("installed: {}", drivers.join(", ")) };
    format!(
        "no Vulkan driver with an adapter ({known}); install your GPU's driver (AMD, Intel: mesa-vulkan-drivers; NVIDIA: its own), \
         which must be allowed to open /dev/dri"
    )
}

/// Metal outside of its home.
pub(super) fn no_metal(macos: bool) -> String {
    if macos { "macOS offers no Metal adapter here".into() } else { "on macOS only; elsewhere use vulkan or wgpu".into() }
}

/// A number too large.
pub(super) fn number(kind: Kind, wanted: usize, found: usize) -> String {
    let many = if found == 1 { "1 adapter is".to_owned() } else { format!("{found} adapters are") };
    format!("there is no number {wanted}: {many} here, counted from 0 (`devices` lists {kind}'s)")
}

/// `:cpu` without such a driver.
pub(super) fn no_software(kind: Kind) -> String {
    format!(
        "no software driver here; install Mesa's lavapipe (Debian: mesa-vulkan-drivers), or leave `:cpu` away for {kind}'s GPU"
    )
}

/// Vulkan finds software drivers only.
pub(super) fn software_only() -> String {
    "only a software driver is here, and SPIR-V crashes inside some of them; use `--device wgpu:cpu` of a `webgpu` build, or insist \
     with vulkan:cpu"
        .into()
}

/// It is listed but cannot be opened.
pub(super) fn unopened(kind: Kind, why: &str) -> String {
    let hint = match kind {
        Kind::Cpu => "",
        Kind::Cuda => "; `nvidia-smi` tells whether the GPU is free and its driver new enough",
        _ => "; another adapter or `--device cpu` may do",
    };
    format!("it is listed but cannot be opened: {}{hint}", why.lines().next().unwrap_or("no reason given").trim())
}

/// What the first steps are spent on.
pub(super) fn first_run(autotuned: bool) -> String {
    if autotuned {
        "The first run of each shape compiles kernels and measures which is fastest: seconds to minutes, kept in target/environment \
         (docs/gpu.md)."
            .into()
    } else {
        "The first run of each shape compiles kernels, which takes seconds (docs/gpu.md).".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_says_what_to_do() {
        for kind in Kind::ALL {
            assert!(not_built(kind).contains("feature"), "{}", not_built(kind));
        }
        for (library, module, word) in [
            (false, false, "install NVIDIA's driver"),
            (false, true, "LD_LIBRARY_PATH"),
            (true, false, "modprobe"),
            (true, true, "CUDA_VISIBLE_DEVICES"),
        ] {
            let text = no_cuda(Cuda { library, module });
            assert!(text.contains(word) && !text.contains("  "), "{text}");
        }
        assert!(no_vulkan(false, &[]).contains("libvulkan1"));
        assert!(no_vulkan(true, &[]).contains("none is installed"));
        assert!(no_vulkan(true, &["radeon_icd".into()]).contains("radeon_icd"));
        assert!(no_metal(false).contains("macOS only"));
        assert!(number(Kind::Vulkan, 4, 2).contains("2 adapters are"));
    }

    #[test]
    fn nvrtc_is_asked_for_only_where_something_is_missing() {
        assert_eq!(no_nvrtc(true, Ok(())), None);
        let both = no_nvrtc(false, Err("/x is missing".into())).unwrap();
        assert!(both.contains("libnvrtc") && both.contains("CUDA_PATH") && both.contains("/x is missing"), "{both}");
        assert!(!no_nvrtc(true, Err("y".into())).unwrap().contains("libnvrtc"));
    }

    #[test]
    fn a_panic_is_one_line() {
        let text = unopened(Kind::Cuda, "CUDA_ERROR_OUT_OF_MEMORY\nstack");
        assert!(text.contains("OUT_OF_MEMORY") && text.contains("nvidia-smi") && !text.contains("stack"), "{text}");
    }
}
