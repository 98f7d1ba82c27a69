//! Auxiliary build commands: `test`, `tidy`, `docs` and `web`. Every other command is handed to the program (`crates/saymask`) or, as `bench`,
//! to the benches (`bench/`), which are built first.

mod docs;
mod handover;
mod test;
mod tidy;
mod web;

use std::ffi::OsString;

use anyhow::Result;

const HELP: &str = "\
Chores of the repository; every other command is handed to the program.

Usage: cargo xtask <COMMAND>

Chores:
  test [--full]  Run every test; with --full also those that need much time or memory
  test --python  Test the Python package with its models and its types
  tidy           Check formatting, lints, docs, packages and file sizes
  docs           Write the index of configs/
  web            Build the page without a server and the package saymask-web (web --help)
  bench <WHAT>   Measure, and write figures into docs/performance.md
  ablate <METHOD>  Train rows of a paper's tables at toy size (docs/ablations.md)

The program:
  help           List its commands: train, eval, predict, segment, ... (builds it first)
";

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&args) {
        Ok(code) => std::process::exit(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::exit(2);
        }
    }
}

fn run(args: &[OsString]) -> Result<i32> {
    let words: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
    match words.iter().map(AsRef::as_ref).collect::<Vec<&str>>()[..] {
        ["test"] => test::run(false).map(|()| 0),
        ["test", "--full"] => test::run(true).map(|()| 0),
        ["test", "--python"] => test::python(true).map(|()| 0),
        ["test", ..] => anyhow::bail!("test: takes nothing, --full or --python, not {:?}", words[1..].join(" ")),
        ["tidy"] => tidy::run().map(|()| 0),
        ["tidy", ..] => anyhow::bail!("tidy: takes no arguments, not {:?}", words[1..].join(" ")),
        ["docs"] => docs::run(false).map(|()| 0),
        ["docs", ..] => anyhow::bail!("docs: takes no arguments, not {:?}", words[1..].join(" ")),
        ["web", ..] => web::run(&args[1..]).map(|()| 0),
        ["bench", ..] => handover::run("saymask-bench", &args[1..]),
        ["ablate", ..] => handover::run("saymask-bench", args),
        [] | ["--help" | "-h"] => {
            print!("{HELP}");
            Ok(0)
        }
        _ => handover::run("saymask", args),
    }
}
