//! The benches' command line; `cargo xtask bench` calls it.

use clap::Parser;
use saymask_bench::BenchCommand;

/// As in the program: training allocates and frees many large tensors.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure, and write figures into docs/performance.md.
#[derive(Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench", version)]
struct Cli {
    #[command(subcommand)]
    command: BenchCommand,
}

fn main() {
    if let Err(error) = saymask_bench::run(&Cli::parse().command) {
        saymask::note!("error: {}", saymask::error::chain(&error));
        std::process::exit(2);
    }
}
