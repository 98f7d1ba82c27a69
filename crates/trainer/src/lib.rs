//! One trainer for every Saymask model: run config, loop, moving average, checkpoints, evaluation, images.
//!
//! A method is seen through [`segmenter::Segmenter`]; [`train::train`] runs a checked [`run_config::RunConfig`] and leaves a run
//! folder behind. A run is a function of its config: stopping and resuming changes nothing, bit for bit on the CPU.
//!
//! ```
//! use burn::tensor::Device;
//! use run_config::RunConfig;
//! use trainer::data::{open_split, open_tokenizer};
//! use trainer::methods;
//!
//! let temp = tempfile::tempdir()?;
//! let folder = temp.path();
//! refcoco_data::generate(&refcoco_data::SynthConfig { images: 12, size: 48, ..Default::default() }, &folder.join("data"))?;
//! let config = RunConfig::resolve(
//!     "[data]\nimage_size = 32\n[text]\nmax_tokens = 8\n[model.dit]\ntext_dim = 8\n\
//!      [model.dit.bert]\nhidden = 8\nlayers = 1\nheads = 1\nffn = 8\n\
//!      [model.dit.sam]\ndecoder_heads = 1\ndecoder_depth = 1\ndecoder_mlp_dim = 8\n\
//!      [model.dit.sam.image_encoder]\nimage_size = 32\npatch_size = 8\nembed_dim = 8\ndepth = 1\nheads = 1\nout_channels = 8\nglobal_blocks = [0]\n\
//!      [train]\nbatch_size = 2\nsteps = 2\n[schedule]\nkind = \"constant\"\n[eval]\nlimit = 2\nfigures = 1",
//!     None,
//!     &[format!("data.root={}", folder.join("data").display()), format!("run.dir={}", folder.join("runs").display())],
//! )?;
//! let data = std::sync::Arc::new(open_split(&config, "train")?);
//! let tokenizer = open_tokenizer(&config, &data, None)?;
//! let summary = methods::train(&config, tokenizer, data, &Device::flex(), false, &mut |_: trainer::event::Event<'_>| {})?;
//! assert_eq!(summary.step, 2);
//! assert!(summary.dir.curves().exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Several ranks, each with a device, train together through [`world::World`]: a step takes `train.batch_size` items over all of
//! them, so a run does not depend on how many there are.
//!
//! # Limits
//! One device per process: Burn's distributed training stays within a process and hangs on uneven shards. Parameters are f32; forward passes may compute in bf16 ([`models::precision`]).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod average;
pub mod batch;
pub mod cache;
pub mod curves;
pub mod data;
mod encoded;
pub mod error;
pub mod evaluate;
pub mod event;
pub mod finite;
mod items;
pub mod memory;
pub mod methods;
pub mod optimise;
pub mod prompts;
mod reducer;
pub mod report;
pub mod run_log;
pub mod schedule;
pub mod segmenter;
pub mod shards;
pub mod state;
pub mod statistics;
pub mod step;
pub mod train;
mod unreadable;
pub mod world;

pub use error::TrainError;
