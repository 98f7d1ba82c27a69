//! `saymask devices`: every kind of device, one line each.

use anyhow::Result;
use clap::Args;

use super::probe::{guarded, identity, probe};
use super::word::Kind;

/// Options of `devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {}

/// Runs the command: what `--device` may say here, and why the rest is missing.
pub fn run(_: &DevicesArgs) -> Result<()> {
    let mut missing = Vec::new();
    for kind in Kind::ALL {
        match probe(kind) {
            Ok(adapters) => {
                for adapter in adapters {
                    // Only an opened device knows its name.
                    let name = match guarded(|| identity(&adapter.device)) {
                        Ok(name) => name.or_else(|| (kind == Kind::Cpu).then(processor)).unwrap_or_else(|| "unnamed".into()),
                        Err(why) => {
                            missing.push((adapter.word, super::advice::unopened(kind, &why)));
                            continue;
                        }
                    };
                    let sort = if adapter.sort.is_empty() { String::new() } else { format!(", {}", adapter.sort) };
                    crate::say!("{:<12}available    {name}{sort}", adapter.word);
                }
            }
            Err(why) => missing.push((kind.name().to_owned(), why)),
        }
    }
    for (word, why) in missing {
        crate::say!("{word:<12}missing      {why}");
    }
    Ok(())
}

/// The processor with its threads.
fn processor() -> String {
    crate::origin::processor()
}
