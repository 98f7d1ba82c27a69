//! The Saymask command line.

use clap::{Parser, Subcommand};

/// Say it, mask it: text-prompted Segment Anything.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model; with nothing else, the demonstration.
    Train(xtask::train::TrainArgs),
}

fn main() {
    let done = match Cli::parse().command {
        Command::Train(args) => xtask::train::run(args),
    };
    if let Err(error) = done {
        eprintln!("error: {error:#}");
        std::process::exit(2);
    }
}
