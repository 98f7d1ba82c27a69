//! How often something happens in training: per epoch, every N steps, or never.

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// How often a run evaluates and saves. In TOML `"epoch"`, a number of steps, or `"never"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Every {
    /// At the end of each epoch.
    #[default]
    Epoch,
    /// After each such number of steps, at least 1.
    Steps(u64),
    /// Only at the end of the run.
    Never,
}

/// What may be written.
const WORDS: &str = "\"epoch\", a number of steps from 1 on, or \"never\"";

impl Every {
    /// Whether it is time after `step` steps.
    #[must_use]
    pub fn is_due(self, step: u64, steps_per_epoch: u64) -> bool {
        match self {
            Self::Epoch => step > 0 && step.is_multiple_of(steps_per_epoch.max(1)),
            Self::Steps(every) => step > 0 && step.is_multiple_of(every.max(1)),
            Self::Never => false,
        }
    }
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Epoch => to.serialize_str("epoch"),
            Self::Steps(steps) => to.serialize_u64(*steps),
            Self::Never => to.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Every;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(WORDS)
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Every, E> {
                match word {
                    "epoch" => Ok(Every::Epoch),
                    "never" => Ok(Every::Never),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_i64<E: Error>(self, steps: i64) -> Result<Every, E> {
                match u64::try_from(steps) {
                    Ok(steps) if steps > 0 => Ok(Every::Steps(steps)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Signed(steps), &self)),
                }
            }

            fn visit_u64<E: Error>(self, steps: u64) -> Result<Every, E> {
                self.visit_i64(i64::try_from(steps).unwrap_or(i64::MAX))
            }
        }
        from.deserialize_any(Word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunConfig;

    #[test]
    fn words_numbers_and_what_is_neither() {
        let read = |value: &str| {
            let config = RunConfig::from_toml_str(&format!("[train]\nsave_every = {value}")).map_err(|e| e.to_string())?;
            assert_eq!(RunConfig::from_toml_str(&config.to_toml().unwrap()).unwrap().train.save_every, config.train.save_every);
            Ok::<_, String>(config.train.save_every)
        };
        assert_eq!(RunConfig::from_toml_str("").unwrap().train.save_every, Every::Epoch);
        for (value, want) in [("\"epoch\"", Every::Epoch), ("\"never\"", Every::Never), ("500", Every::Steps(500))] {
            assert_eq!(read(value), Ok(want));
        }
        for wrong in ["0", "-3", "\"epochs\"", "true", "1.5"] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("`train.save_every`") && error.contains("\"epoch\""), "{error}");
        }
    }

    #[test]
    fn an_epoch_ends_where_its_steps_end() {
        let due = |every: Every| (0..=12).filter(|step| every.is_due(*step, 5)).collect::<Vec<_>>();
        assert_eq!(due(Every::Epoch), [5, 10]);
        assert_eq!(due(Every::Steps(4)), [4, 8, 12]);
        assert_eq!(due(Every::Never), Vec::<u64>::new());
    }
}
