//! The names that `cubecl-cuda` 0.11.3 takes from `cubecl-llvm`, without LLVM.
//!
//! CubeCL's CUDA runtime has two code generators: LLVM, and CUDA C++ compiled by NVRTC at run time (`cubecl-cuda/cpp`).
//! Both are always built, and the first one's build script downloads LLVM. Where that is impossible, this crate takes its
//! place and the second generator does all the work; asked to compile, this one answers with an error.

use cubecl_core::ir::nvidia::SmArch;
use cubecl_core::prelude::KernelDefinition;
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::compiler::CompilationError;
use cubecl_runtime::kernel::BufferIOAttr;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, Default)]
pub enum LlvmTarget {
    /// The processor.
    #[default]
    Cpu,
    /// NVIDIA's PTX.
    Nvptx,
}

/// The generator that is not here.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// What it would compile for.
    pub target: LlvmTarget,
}

/// Options of [`PlironCompiler::compile`].
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// Architecture of another vendor; none exists here.
    pub arch: Option<core::convert::Infallible>,
    /// NVIDIA architecture.
    pub sm_arch: Option<SmArch>,
    /// Version of PTX.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether parameters are grid constants.
    pub grid_constants: bool,
    /// Keeps `..Default::default()` of callers meaningful.
    pub reserved: (),
}

/// A compiled kernel.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// PTX, ended by a zero.
    pub ptx: Vec<core::ffi::c_char>,
    /// Name of the kernel in it.
    pub entrypoint: String,
    /// Intermediate form, for logs.
    pub ir: String,
    /// Shared memory in bytes.
    pub shared_memory_size: usize,
    /// Which buffers are read and written.
    pub io: Vec<BufferIOAttr>,
}

/// What compiling gives.
#[derive(Clone)]
pub enum PlironArtifact {
    /// PTX.
    NvptxCode(NvptxModule),
    /// Anything else; keeps the callers' catch-all arm reachable.
    Unavailable,
}

impl PlironCompiler {
    /// Always an error.
    ///
    /// # Errors
    ///
    /// Names the feature that selects the other generator.
    pub fn compile(&mut self, _: KernelDefinition, _: &PlironOptions) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic {
            reason: "built without LLVM: build with the feature `cuda-nvrtc`, which compiles kernels with NVRTC".into(),
            backtrace: BackTrace::capture(),
        })
    }

    /// Name of the generator in caches.
    pub fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}

/// NVIDIA's target.
pub mod nvptx {
    /// Versions of PTX.
    pub mod ptx_version {
        /// A version of PTX.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct PtxVersion(u32);

        impl PtxVersion {
            /// The newest version a driver understands; none is needed without LLVM.
            pub fn for_driver(_: i32) -> Option<Self> {
                None
            }
        }

        impl core::fmt::Display for PtxVersion {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "ptx{}", self.0)
            }
        }
    }
}

/// Parts common to all targets.
pub mod shared {
    /// What a target cannot do.
    pub mod lowered_features {
        use cubecl_core::ir::DeviceProperties;

        /// A GPU target.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum GpuTarget {
            /// NVIDIA.
            Nvptx,
        }

        /// Would remove what LLVM cannot express; CUDA C++ can express all of it.
        pub fn restrict_features(_: &mut DeviceProperties, _: GpuTarget) {}
    }
}
