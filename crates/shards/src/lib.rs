//! Work over WebDataset tars by any number of workers that share nothing but a folder.
//!
//! Use it to turn many tars of images and sentences into one results file per tar, on one machine or a thousand: [`expand`] names the
//! tars, [`Part`] says which of them are a worker's, [`Claim`] keeps two workers from the same one, [`Samples`] reads it, and [`Output`]
//! writes what came of it aside and renames it, with a [`Report`] that holds its checksum. A worker may be killed at any moment: a
//! shard is done when its report is there, and else it is done again.
//!
//! ```
//! use shards::{Part, expand};
//!
//! let tars = expand("in-{000..011}.tar")?;
//! assert_eq!((tars.len(), tars[7].to_str()), (12, Some("in-007.tar")));
//! assert_eq!(Part::parse("1/4")?.of(&tars).len(), 3);
//! # Ok::<(), shards::ShardError>(())
//! ```
//!
//! # Limits
//! Local files, and what looks like them; renames within a folder must replace a file at once, and creation must be exclusive, as POSIX
//! has both (NFS from version 3 on). Compressed tars are not read. A sample is held in memory, a tar is not.
//!
//! # Sources
//! The layout of tars is WebDataset's: files of a sample follow each other and share their name up to the first dot.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod claim;
mod error;
mod output;
mod part;
mod pattern;
mod samples;

pub use claim::Claim;
pub use error::ShardError;
pub use output::{Fault, Output, Report, State};
pub use part::Part;
pub use pattern::expand;
pub use samples::{Sample, Samples};
