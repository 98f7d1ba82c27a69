//! What can go wrong in a run.

use std::path::PathBuf;

/// Why a run cannot start, continue or finish.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The config.
    #[error(transparent)]
    Config(#[from] run_config::ConfigError),
    /// The run folder or a checkpoint in it.
    #[error(transparent)]
    RunDir(#[from] models::run_dir::RunDirError),
    /// The model.
    #[error(transparent)]
    Model(#[from] models::ModelError),
    /// The run's log.
    #[error(transparent)]
    RunLog(#[from] crate::run_log::LogError),
    /// The schedule.
    #[error(transparent)]
    Schedule(#[from] crate::schedule::ScheduleError),
    /// The data.
    #[error(transparent)]
    Data(#[from] refcoco_data::DataError),
    /// The text.
    #[error(transparent)]
    Text(#[from] text_encoders::TextError),
    /// Weight files.
    #[error(transparent)]
    Weights(#[from] nn_ops::weights::WeightsError),
    /// The DIT model.
    #[error(transparent)]
    Dit(#[from] fusion_dit::DitError),
    /// The EVF-SAM model.
    #[error(transparent)]
    Evf(#[from] fusion_evf::EvfError),
    /// The RISAM model.
    #[error(transparent)]
    Risam(#[from] fusion_risam::RisamError),
    /// SAM.
    #[error(transparent)]
    Sam(#[from] sam_vit::SamError),
    /// Metrics.
    #[error(transparent)]
    Metric(#[from] metrics::MetricError),
    /// A mask.
    #[error(transparent)]
    Mask(#[from] coco_mask::MaskError),
    /// A figure.
    #[error(transparent)]
    Figure(#[from] figures::FigureError),
    /// Another rank.
    #[error(transparent)]
    Ranks(#[from] ranks::RankError),
    /// A file of the run.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        what: String,
    },
    /// A recorded state that cannot be read back.
    #[error("{path}: the saved state cannot be used: {what}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Tensor read-back failed.
    #[error("reading {what} back from the device failed: {reason}")]
    Device {
        /// What was read.
        what: &'static str,
        /// The device's reason.
        reason: String,
    },
    /// Loss or gradients stopped being numbers, step after step.
    #[error(
        "step {step}: the loss is {loss} and the gradient norm {norm}, for {times} steps in a row; {found}; lower optim.lr or set optim.grad_clip"
    )]
    Diverged {
        /// The last of these steps.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Its gradient norm.
        norm: f64,
        /// How many there were.
        times: u64,
        /// Which tensors are not finite.
        found: String,
    },
}
