//! Scores referring-segmentation results of any program under the protocols of published code bases, side by side.
//!
//! Use it to judge masks that another program wrote, without its model: COCO results, JSONL, a folder of PNG files, the layouts of
//! LISA, EVF-SAM and ReLA. The same masks are scored under every [`Protocol`], so that one sees how many points a protocol alone is
//! worth before two published figures are compared.
//!
//! ```
//! use referee::{Joined, Protocol, Results, Split, score, tables};
//! use refcoco_data::{Dataset, DatasetSpec, SynthConfig, generate};
//!
//! # let temp = tempfile::tempdir().unwrap();
//! # let (data, file) = (temp.path().join("data"), temp.path().join("results.json"));
//! # generate(&SynthConfig { images: 8, size: 64, ..SynthConfig::default() }, &data).unwrap();
//! let split = Split::new(&Dataset::open(&DatasetSpec::new(&data, "refcoco"), "val").unwrap());
//! # let perfect: Vec<_> = split.expressions.iter().map(|e| {
//! #     let mask = split.truths[e.truth].union();
//! #     let counts = mask.to_compressed();
//! #     serde_json::json!({"sent_id": e.sent_id, "segmentation": {"size": [mask.height(), mask.width()], "counts": counts}})
//! # }).collect();
//! # std::fs::write(&file, serde_json::Value::from(perfect).to_string()).unwrap();
//! let results = Results::open(&file, false)?;
//! let joined = Joined::new(&split, &results)?;
//! let scores = score(&split, &results, &joined, &Protocol::all(), |_| {})?;
//! assert_eq!(scores[0].outcome.as_ref().unwrap().miou, 1.0);
//! let table = tables::side_by_side(&scores).render(referee::Format::Text);
//! # assert!(table.contains("saymask"));
//! # Ok::<(), referee::RefereeError>(())
//! ```
//!
//! # Limits
//! Files of torch and pickle are not read. Figures that come from averages over GPU ranks, from samples that a distributed sampler
//! repeats, or from sums in f32 are not imitated. SeqTR's crowd flag for objects of several polygons is none of the protocols.
//!
//! # Sources
//! What each protocol does is in [`tables::protocols`]; what is a reading of ours is said there. `tests/fixtures` holds cases that
//! numpy, Pillow, OpenCV and pycocotools judged.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod error;
mod join;
mod mask;
mod protocol;
mod read_folder;
mod read_json;
mod resample;
mod results;
mod score;
mod split;
mod table;
pub mod tables;
mod truth;

pub use error::RefereeError;
pub use join::Joined;
pub use mask::{Answer, Levels, MaskField, SoftMap};
pub use protocol::{Frame, OtherSize, Overlap, Protocol, Refusal, Soft};
pub use resample::{MapFilter, resize_map, resize_nearest};
pub use results::{ImageKey, MaskSource, Record, Results};
pub use score::{Given, Refused, Score, score, score_with};
pub use split::{Expression, Split};
pub use table::{Cell, Format, Table};
pub use truth::Truth;
