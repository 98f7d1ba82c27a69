use std::path::{Path, PathBuf};

/// What can be wrong with a data set, a request for one, or its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder that must exist does not.
    #[error("{path}: no such {what}; {hint}", path = path.display())]
    Missing {
        /// The path looked for.
        path: PathBuf,
        /// "folder", "refs file", "image", ...
        what: &'static str,
        /// What would be right.
        hint: String,
    },
    /// The operating system refused.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// "read", "write", ...
        action: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// A file that is not a whole, plain pickle.
    #[error("{path}: not a readable pickle: {reason}", path = path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What the decoder said and what may have happened.
        reason: String,
    },
    /// A file that is not JSON at all.
    #[error("{path}: not valid JSON: {reason}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// A field of the wrong shape.
    #[error("{path}: field `{field}`: expected {expected}, found {found}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, e.g. `annotations[3].bbox`.
        field: String,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An id that points nowhere.
    #[error("{path}: field `{field}`: {id} is not an id in `{table}`", path = path.display())]
    Dangling {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// The id.
        id: String,
        /// Where it should be.
        table: &'static str,
    },
    /// An id that stands for two things.
    #[error("{path}: fields `{first}` and `{second}` have the same id, {id}: ids must be unique", path = path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The field that has it first.
        first: String,
        /// The field that has it again.
        second: String,
        /// The id.
        id: String,
    },
    /// A segmentation that is not a mask of its image.
    #[error("{path}: field `{field}`: {reason}", path = path.display())]
    Mask {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// An image that cannot be decoded, or has another size than its record.
    #[error("{path}: unusable image: {reason}", path = path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A label map that cannot be used.
    #[error("{path}: unusable label map: {reason}", path = path.display())]
    LabelMap {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A mask in a file of its own that cannot be used.
    #[error("{path}: unusable mask: {reason}", path = path.display())]
    MaskFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A split of data of one's own that has no image.
    #[error("{path}: no image in the split `{split}`: {hint}", path = path.display())]
    Split {
        /// The folder.
        path: PathBuf,
        /// The split.
        split: String,
        /// Where the images are, and what would be right.
        hint: String,
    },
    /// A kept intermediate result that cannot be used.
    #[error("{path}: unusable kept features: {reason}", path = path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A set or split name that does not exist.
    #[error("unknown {what} `{found}`: use one of {valid}")]
    Name {
        /// "data set" or "split".
        what: &'static str,
        /// The name given.
        found: String,
        /// Names that exist.
        valid: String,
    },
    /// A setting outside its range.
    #[error("setting `{key}` is {found}: {expected}")]
    Setting {
        /// The key.
        key: &'static str,
        /// The value given.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// More files of a training set than a run may skip.
    #[error(
        "more than {limit} images or masks of the training set cannot be read, at last {last}; `data verify --deep` names them all, and data.max_unreadable raises the limit"
    )]
    TooManyUnreadable {
        /// Most of them that are skipped.
        limit: usize,
        /// The one too many.
        last: Box<DataError>,
    },
    /// The loading thread ended without a word (it was stopped or it failed).
    #[error("the loading thread ended before its last batch")]
    LoaderGone,
}

impl DataError {
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), action, source }
    }

    pub(crate) fn field(path: &Path, field: impl Into<String>, expected: &str, found: impl Into<String>) -> Self {
        Self::Field { path: path.into(), field: field.into(), expected: expected.into(), found: found.into() }
    }
}
