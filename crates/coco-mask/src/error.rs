use std::fmt;

/// What can be wrong with a mask.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MaskError {
    /// Height or width is 0, or their product exceeds [`crate::MAX_PIXELS`].
    Size {
        /// Rows given.
        height: u32,
        /// Columns given.
        width: u32,
    },
    /// The runs do not add up to height x width.
    RunSum {
        /// Sum of the runs.
        sum: u64,
        /// Height x width.
        pixels: u64,
    },
    /// A byte mask has the wrong length.
    Length {
        /// Bytes given.
        found: usize,
        /// Height x width.
        expected: u64,
    },
    /// A byte outside the compressed alphabet (48 to 111).
    Character {
        /// Offset in the string.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A compressed string ends inside a run.
    Truncated,
    /// A compressed run is negative or does not fit 32 bits.
    Run {
        /// Index of the run.
        index: usize,
    },
    /// A polygon list is empty.
    NoPolygon,
    /// A polygon has too few numbers.
    PolygonLength {
        /// Index of the polygon in its list.
        polygon: usize,
        /// Numbers found.
        found: usize,
        /// Least acceptable count: 5 for the first polygon (as in pycocotools, where 4 mean a box), 2 for the others.
        least: usize,
    },
    /// A coordinate is not finite or is absurdly large.
    Coordinate {
        /// Index of the polygon in its list.
        polygon: usize,
        /// Index of the number in the polygon.
        at: usize,
        /// The number.
        value: f64,
    },
    /// A polygon's outline is longer than [`crate::MAX_OUTLINE`].
    Outline {
        /// Index of the polygon in its list.
        polygon: usize,
    },
    /// Two masks of different sizes were combined.
    Mismatch {
        /// (height, width) of the first.
        first: (u32, u32),
        /// (height, width) of the other.
        other: (u32, u32),
    },
    /// Nothing to merge.
    NothingToMerge,
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { height, width } => write!(
                f,
                "mask size {height} x {width}: both sides must be at least 1 and their product at most {}",
                crate::MAX_PIXELS
            ),
            Self::RunSum { sum, pixels } => {
                write!(f, "runs add up to {sum} pixels, but height x width is {pixels}")
            }
            Self::Length { found, expected } => {
                write!(f, "byte mask has {found} bytes, but height x width is {expected}")
            }
            Self::Character { at, byte } => {
                write!(f, "byte {byte} at offset {at} of a compressed mask: must be 48 ('0') to 111 ('o')")
            }
            Self::Truncated => write!(f, "compressed mask ends in the middle of a run"),
            Self::Run { index } => {
                write!(f, "run {index} of a compressed mask is negative or does not fit 32 bits")
            }
            Self::NoPolygon => write!(f, "segmentation holds no polygon: at least one is needed"),
            Self::PolygonLength { polygon, found, least } => {
                write!(f, "polygon {polygon} has {found} numbers: at least {least} are needed")
            }
            Self::Coordinate { polygon, at, value } => {
                write!(f, "number {at} of polygon {polygon} is {value}: must be finite and below 1e8 in size")
            }
            Self::Outline { polygon } => {
                write!(f, "outline of polygon {polygon} is longer than {} fifths of a pixel", crate::MAX_OUTLINE)
            }
            Self::Mismatch { first, other } => {
                write!(f, "masks differ in size: {} x {} and {} x {} (height x width)", first.0, first.1, other.0, other.1)
            }
            Self::NothingToMerge => write!(f, "no mask to merge: at least one is needed"),
        }
    }
}

impl std::error::Error for MaskError {}
