//! What is there, found without opening what would panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use burn::tensor::Device;

use super::advice;
use super::word::Kind;

/// One that can be opened.
#[derive(Debug, Clone)]
pub(super) struct Adapter {
    /// How `--device` names it.
    pub word: String,
    /// Discrete, integrated and so on; empty where there is only one sort.
    pub sort: &'static str,
    /// It computes on the processor.
    pub software: bool,
    /// Not opened yet.
    pub device: Device,
}

/// All of a kind, or why there is none and what would help.
pub(super) fn probe(kind: Kind) -> Result<Vec<Adapter>, String> {
    match kind {
        Kind::Cpu => cpu(),
        Kind::Cuda => cuda(),
        Kind::Vulkan => vulkan(),
        Kind::Metal => metal(),
        Kind::Wgpu => wgpu(),
    }
}

/// The device's name as its driver says it; opens the device.
pub fn identity(device: &Device) -> Option<String> {
    #[cfg(any(feature = "cuda", feature = "vulkan", feature = "metal", feature = "webgpu"))]
    if let Some(found) = device.identity() {
        return Some(found.name);
    }
    let _ = device;
    None
}

/// Runs what may panic inside CubeCL or a driver's binding and gives the panic's words as an error. Burn has no fallible way to
/// open a device, and cudarc panics on a library that lacks a symbol; this is the only place where panics are caught.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    // CubeCL opens devices on threads of its own, whose panics arrive here without their words; the hook hears them all.
    let heard = std::sync::Arc::new(Mutex::new(String::new()));
    let usual = std::panic::take_hook();
    let ear = heard.clone();
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let words = payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        if let (Ok(mut first), Some(words)) = (ear.lock(), words)
            && first.is_empty()
        {
            *first = words;
        }
    }));
    let done = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(usual);
    done.map_err(|_| match heard.lock() {
        Ok(words) if !words.is_empty() => words.clone(),
        _ => "the driver gave no reason".into(),
    })
}

#[cfg(feature = "flex")]
fn cpu() -> Result<Vec<Adapter>, String> {
    Ok(vec![Adapter { word: "cpu".into(), sort: "", software: false, device: Device::flex() }])
}

#[cfg(not(feature = "flex"))]
fn cpu() -> Result<Vec<Adapter>, String> {
    Err(advice::not_built(Kind::Cpu))
}

/// Burn asks whether libcuda can be loaded before it asks the driver, so listing is safe without one.
#[cfg(feature = "cuda")]
fn cuda() -> Result<Vec<Adapter>, String> {
    use super::system;
    let found = guarded(|| Device::enumerate(burn::tensor::DeviceType::Cuda).to_vec())?;
    if found.is_empty() {
        let library = system::library(&["libcuda.so", "libcuda.so.1"]);
        return Err(advice::no_cuda(advice::Cuda { library, module: system::nvidia_module() }));
    }
    if cfg!(feature = "cuda-nvrtc")
        && let Some(missing) = advice::no_nvrtc(system::nvrtc(), system::cuda_headers())
    {
        return Err(missing);
    }
    let one = |(n, device)| Adapter { word: format!("cuda:{n}"), sort: "", software: false, device };
    Ok(found.into_iter().enumerate().map(one).collect())
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Result<Vec<Adapter>, String> {
    Err(advice::not_built(Kind::Cuda))
}

#[cfg(feature = "vulkan")]
fn vulkan() -> Result<Vec<Adapter>, String> {
    family(Kind::Vulkan, burn::tensor::DeviceType::Vulkan, Device::vulkan)
}

#[cfg(not(feature = "vulkan"))]
fn vulkan() -> Result<Vec<Adapter>, String> {
    Err(advice::not_built(Kind::Vulkan))
}

#[cfg(all(feature = "metal", target_os = "macos"))]
fn metal() -> Result<Vec<Adapter>, String> {
    family(Kind::Metal, burn::tensor::DeviceType::Metal, Device::metal)
}

#[cfg(not(all(feature = "metal", target_os = "macos")))]
fn metal() -> Result<Vec<Adapter>, String> {
    Err(if cfg!(target_os = "macos") { advice::not_built(Kind::Metal) } else { advice::no_metal(false) })
}

#[cfg(any(feature = "webgpu", feature = "vulkan", feature = "metal"))]
fn wgpu() -> Result<Vec<Adapter>, String> {
    family(Kind::Wgpu, burn::tensor::DeviceType::Wgpu, Device::wgpu)
}

#[cfg(not(any(feature = "webgpu", feature = "vulkan", feature = "metal")))]
fn wgpu() -> Result<Vec<Adapter>, String> {
    Err(advice::not_built(Kind::Wgpu))
}

/// The adapters of a graphics interface: what is hardware first, software last, so that number 0 is the usual choice.
#[cfg(any(feature = "webgpu", feature = "vulkan", feature = "metal"))]
fn family(
    kind: Kind,
    sort: burn::tensor::DeviceType,
    make: fn(burn::tensor::DeviceKind) -> Device,
) -> Result<Vec<Adapter>, String> {
    use burn::tensor::DeviceKind;
    let found = guarded(|| Device::enumerate(sort).to_vec())?;
    if found.is_empty() {
        return Err(match kind {
            Kind::Metal => advice::no_metal(true),
            _ => advice::no_vulkan(super::system::library(&["libvulkan.so", "libvulkan.so.1"]), &super::system::vulkan_drivers()),
        });
    }
    // A device does not tell its sort, but equals the one that is asked for by sort and number.
    let sorts: [(&'static str, fn(usize) -> DeviceKind); 4] = [
        ("discrete GPU", DeviceKind::DiscreteGpu),
        ("integrated GPU", DeviceKind::IntegratedGpu),
        ("virtual GPU", DeviceKind::VirtualGpu),
        ("software", |_| DeviceKind::Cpu),
    ];
    let rank = |device: &Device| sorts.iter().position(|(_, kind)| (0..found.len()).any(|n| make(kind(n)) == *device));
    // An adapter of no known sort lies before the software ones.
    let mut ranked: Vec<(usize, &'static str, Device)> = found
        .iter()
        .map(|device| match rank(device) {
            Some(3) => (4, sorts[3].0, device.clone()),
            Some(at) => (at, sorts[at].0, device.clone()),
            None => (3, "adapter of another sort", device.clone()),
        })
        .collect();
    ranked.sort_by_key(|(at, _, _)| *at);
    let named = |(n, (at, sort, device)): (usize, (usize, &'static str, Device))| {
        let word = if at == 4 { format!("{kind}:cpu") } else { format!("{kind}:{n}") };
        Adapter { word, sort, software: at == 4, device }
    };
    Ok(ranked.into_iter().enumerate().map(named).collect())
}

/// What CubeCL's environment variable names.
pub(super) fn default_device(kind: Kind) -> Option<Device> {
    match kind {
        #[cfg(feature = "vulkan")]
        Kind::Vulkan => Some(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(all(feature = "metal", target_os = "macos"))]
        Kind::Metal => Some(Device::metal(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(any(feature = "webgpu", feature = "vulkan", feature = "metal"))]
        Kind::Wgpu => Some(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_words_wherever_it_happens() {
        assert_eq!(guarded(|| 3), Ok(3));
        assert_eq!(guarded(|| panic!("no {}", "adapter")).map(|()| 0), Err("no adapter".into()));
        let elsewhere =
            || std::thread::spawn(|| panic!("the driver said no")).join().map_err(|_| ()).unwrap_or_else(|()| panic!());
        assert_eq!(guarded(elsewhere).map(|()| 0), Err("the driver said no".into()));
    }
}
