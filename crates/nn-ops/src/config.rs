//! `ConfigError`: a key of a configuration, its value and what would be right; and the checks that configurations share.

use std::fmt::Display;

/// A value of a configuration that no model fits. Every `validate()` of the model crates returns it.
///
/// ```
/// use nn_ops::ConfigError;
///
/// let error = ConfigError::new("heads", 7, "a divisor of width 64").below("sam");
/// assert_eq!(error.to_string(), "`sam.heads` is 7: must be a divisor of width 64");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is {found}: must be {expected}")]
pub struct ConfigError {
    /// The key, with dots between tables.
    pub key: String,
    /// Its value.
    pub found: String,
    /// What would be right, as it follows "must be".
    pub expected: String,
}

impl ConfigError {
    /// The error of a key by its own name.
    pub fn new(key: impl Into<String>, found: impl Display, expected: impl Into<String>) -> Self {
        Self { key: key.into(), found: found.to_string(), expected: expected.into() }
    }

    /// The same error seen from the table around: its key gets `table.` in front.
    #[must_use]
    pub fn below(self, table: &str) -> Self {
        Self { key: format!("{table}.{}", self.key), ..self }
    }
}

/// A choice as a configuration file writes it, in quotes: the `found` of an enum.
pub fn quoted<T: serde::Serialize>(choice: &T) -> String {
    serde_json::to_string(choice).unwrap_or_default()
}

/// Fails at the first of `sizes` that is 0.
///
/// # Errors
/// As said.
pub fn check_positive(sizes: &[(&str, usize)]) -> Result<(), ConfigError> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((key, _)) => Err(ConfigError::new(*key, 0, "at least 1")),
        None => Ok(()),
    }
}

/// Fails unless `value` is a multiple of `of`; nothing but 0 is a multiple of 0.
///
/// # Errors
/// As said.
pub fn check_multiple((key, value): (&str, usize), (of_key, of): (&str, usize)) -> Result<(), ConfigError> {
    if value.is_multiple_of(of) {
        return Ok(());
    }
    Err(ConfigError::new(key, value, format!("a multiple of {of_key}, {of}")))
}

/// Fails unless 0 < `value` < 1, as for a threshold whose logit is needed.
///
/// # Errors
/// As said.
pub fn check_probability(key: &str, value: f64) -> Result<(), ConfigError> {
    if value > 0.0 && value < 1.0 { Ok(()) } else { Err(ConfigError::new(key, value, "a probability between 0 and 1")) }
}

/// Fails unless 0 <= `value` < 1.
///
/// # Errors
/// As said.
pub fn check_dropout(key: &str, value: f64) -> Result<(), ConfigError> {
    if (0.0..1.0).contains(&value) { Ok(()) } else { Err(ConfigError::new(key, value, "a probability from 0 to below 1")) }
}

/// Fails unless `value` is finite and not negative.
///
/// # Errors
/// As said.
pub fn check_weight(key: &str, value: f64) -> Result<(), ConfigError> {
    if value >= 0.0 && value.is_finite() { Ok(()) } else { Err(ConfigError::new(key, value, "finite and at least 0")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_name_key_value_and_what_is_right() {
        let text = |result: Result<(), ConfigError>| result.unwrap_err().to_string();
        assert_eq!(text(check_positive(&[("width", 3), ("depth", 0)])), "`depth` is 0: must be at least 1");
        assert_eq!(text(check_multiple(("width", 10), ("heads", 4))), "`width` is 10: must be a multiple of heads, 4");
        assert!(check_multiple(("width", 10), ("heads", 0)).is_err());
        for wrong in [0.0, 1.0, f64::NAN] {
            assert!(text(check_probability("tau", wrong)).starts_with("`tau` is"), "{wrong}");
        }
        assert_eq!(text(check_dropout("dropout", 1.0)), "`dropout` is 1: must be a probability from 0 to below 1");
        assert!(check_weight("weight", f64::INFINITY).is_err() && check_weight("weight", -0.1).is_err());
        for right in [check_positive(&[("width", 1)]), check_multiple(("a", 8), ("b", 4)), check_probability("t", 0.5)] {
            right.unwrap();
        }
        assert_eq!(quoted(&crate::activation::Activation::QuickGelu), "\"quick_gelu\"");
        assert!(check_dropout("dropout", 0.0).is_ok() && check_weight("weight", 0.0).is_ok());
    }
}
