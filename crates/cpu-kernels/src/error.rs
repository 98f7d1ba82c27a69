//! Errors of the kernels: arguments whose sizes contradict each other.

/// Why a kernel refuses its arguments. Nothing was computed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice does not have the length that the sizes ask for.
    #[error("{what} has {found} values; the sizes given with it ask for {expected}")]
    Length {
        /// The argument.
        what: &'static str,
        /// Values in it.
        found: usize,
        /// Values that the sizes ask for.
        expected: usize,
    },
    /// A size is zero or does not divide another.
    #[error("{what} is {found}; must be at least 1 and divide {whole}")]
    Divisor {
        /// The size.
        what: &'static str,
        /// What it is.
        found: usize,
        /// What it must divide.
        whole: usize,
    },
    /// A token stands for a row that does not exist.
    #[error("a token stands for row {row} of a projection with {rows} rows")]
    Row {
        /// The row.
        row: usize,
        /// Number of rows.
        rows: usize,
    },
    /// A token's place lies outside of the grid.
    #[error("a token's place is row {}, column {}; the grid of relative positions has {} rows and {} columns", place.0, place.1, grid.0, grid.1)]
    Place {
        /// Row and column.
        place: (usize, usize),
        /// Rows and columns of the grid.
        grid: (usize, usize),
    },
}

/// Fails unless a slice has a length.
pub(crate) fn check_length<T>(what: &'static str, values: &[T], expected: usize) -> Result<(), KernelError> {
    let found = values.len();
    if found == expected { Ok(()) } else { Err(KernelError::Length { what, found, expected }) }
}

/// Fails unless `found` divides `whole`.
pub(crate) fn check_divisor(what: &'static str, found: usize, whole: usize) -> Result<(), KernelError> {
    if found > 0 && whole.is_multiple_of(found) { Ok(()) } else { Err(KernelError::Divisor { what, found, whole }) }
}
