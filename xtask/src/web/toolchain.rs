//! A toolchain for wasm32: rustup's target, else Debian's packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::handover::target;

/// What the crate is compiled for.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";
/// The profile in `web/Cargo.toml`.
pub(super) const PROFILE: &str = "web";

/// 128-bit vectors, which every browser has had since 2021; and where random numbers come from.
const RUSTFLAGS: &str = "-C target-feature=+simd128 --cfg getrandom_backend=\"wasm_js\"";

const MISSING: &str = "no toolchain for wasm32. Either `rustup target add wasm32-unknown-unknown`, or on Debian \
                       `apt-get install rustc-web cargo-web rust-web-src lld`; missing of the latter here";

/// How the crate can be compiled here.
#[derive(Debug)]
pub(super) enum Toolchain {
    /// The usual cargo with rustup's standard library for the target.
    Rustup,
    /// Debian's compiler, which builds the standard library from its sources.
    Debian {
        /// `library` of the sources.
        library: PathBuf,
        /// LLVM's linker.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// The first one that is whole.
    pub(super) fn find() -> Result<Self> {
        let installed = Command::new("rustup").args(["target", "list", "--installed"]).output();
        if installed.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).lines().any(|line| line == TARGET)) {
            return Ok(Self::Rustup);
        }
        match (debian_compiler(), sources(), linker()) {
            (true, Some(library), Some(linker)) => Ok(Self::Debian { library, linker }),
            (compiler, sources, linker) => {
                let parts = [(compiler, "rustc-web, cargo-web"), (sources.is_some(), "rust-web-src"), (linker.is_some(), "lld")];
                let missing: Vec<&str> = parts.iter().filter(|(found, _)| !found).map(|(_, name)| *name).collect();
                bail!("{MISSING}: {}", missing.join(", "))
            }
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Rustup => "rustup's target",
            Self::Debian { .. } => "Debian's rustc-web",
        }
    }

    /// `cargo build` or `cargo check` of the crate.
    pub(super) fn cargo(&self, root: &Path, what: &str) -> Result<Command> {
        let mut cargo = match self {
            Self::Rustup => Command::new("cargo"),
            Self::Debian { library, linker } => {
                let mut cargo = Command::new("/usr/bin/cargo");
                cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1").env("__CARGO_TESTS_ONLY_SRC_ROOT", library);
                cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                // What rustup's cargo has set for the compiler of its own.
                for variable in ["RUSTUP_TOOLCHAIN", "RUSTDOC", "RUSTC_WRAPPER", "LD_LIBRARY_PATH"] {
                    cargo.env_remove(variable);
                }
                cargo
            }
        };
        cargo.arg(what);
        if matches!(self, Self::Debian { .. }) {
            cargo.args(["-Z", "build-std=std,panic_abort"]);
        }
        cargo.args(["--locked", "--target", TARGET, "--profile", PROFILE, "--package", "saymask-web", "--manifest-path"]);
        cargo.arg(root.join("web/Cargo.toml")).env("CARGO_TARGET_DIR", target_folder()?);
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", RUSTFLAGS);
        Ok(cargo)
    }
}

/// Where this build lies, apart from the program's.
pub(super) fn target_folder() -> Result<PathBuf> {
    Ok(target()?.join("wasm"))
}

fn debian_compiler() -> bool {
    Path::new("/usr/bin/cargo").exists() && Path::new("/usr/bin/rustc").exists()
}

/// The sources of the standard library that belong to Debian's compiler.
fn sources() -> Option<PathBuf> {
    let version = Command::new("/usr/bin/rustc").arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&version.stdout).split_whitespace().nth(1)?.to_owned();
    let library = PathBuf::from(format!("/usr/src/rustc-{version}/library"));
    library.is_dir().then_some(library)
}

fn linker() -> Option<PathBuf> {
    let path = Path::new("/usr/bin/wasm-ld");
    path.exists().then(|| path.to_owned())
}
