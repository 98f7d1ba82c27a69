use std::path::PathBuf;

/// What can go wrong before anything is scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefereeError {
    /// A file or folder that cannot be read.
    #[error("{}: cannot read it: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// One result that cannot be used.
    #[error("{}: {place}: {what}", path.display())]
    Result {
        /// The file.
        path: PathBuf,
        /// Where in it: `results[17].segmentation`, `line 3`.
        place: String,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// Results of another data set or split.
    #[error(
        "{}: {unknown} of {total} results belong to no expression of {set}; the first: {first}. Are they results of another set, of \
         another split, or of the same set split by somebody else?",
        path.display()
    )]
    OtherSet {
        /// The results.
        path: PathBuf,
        /// Results that join nothing.
        unknown: usize,
        /// All results.
        total: usize,
        /// The data set, as `refcoco (unc) val`.
        set: String,
        /// The first that joins nothing, and why.
        first: String,
    },
    /// The data set.
    #[error(transparent)]
    Data(#[from] refcoco_data::DataError),
    /// A protocol that does not exist.
    #[error("unknown protocol `{found}`: use one of {known}")]
    Protocol {
        /// The name given.
        found: String,
        /// The names there are.
        known: String,
    },
    /// A mask.
    #[error(transparent)]
    Mask(#[from] coco_mask::MaskError),
    /// A map.
    #[error(transparent)]
    Map(#[from] pil_ops::ImageError),
}

impl RefereeError {
    pub(crate) fn format(path: impl Into<PathBuf>, what: impl ToString) -> Self {
        Self::Format { path: path.into(), what: what.to_string() }
    }
}
