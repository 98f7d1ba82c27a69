//! What the backward pass computes again.

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use crate::read::one_of;

/// Activations that are computed again in the backward pass instead of being kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// None.
    #[default]
    None,
    /// Outputs of cheap operations, by Burn.
    Operations,
    /// All inside of an encoder's block; see `nn_ops::recompute`.
    Blocks,
}

impl Recompute {
    const WORDS: [&str; 3] = ["none", "operations", "blocks"];
}

impl<'de> Deserialize<'de> for Recompute {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Recompute;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&one_of(&Recompute::WORDS))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Recompute, E> {
                match word {
                    "none" => Ok(Recompute::None),
                    "operations" => Ok(Recompute::Operations),
                    "blocks" => Ok(Recompute::Blocks),
                    _ => Err(E::unknown_variant(word, &Recompute::WORDS)),
                }
            }

            /// As older configs say it.
            fn visit_bool<E: Error>(self, operations: bool) -> Result<Recompute, E> {
                Ok(if operations { Recompute::Operations } else { Recompute::None })
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
    fn words_and_what_older_configs_say() {
        let read = |value: &str| {
            let config = RunConfig::from_toml_str(&format!("[train]\nrecompute = {value}")).map_err(|e| e.to_string())?;
            assert_eq!(RunConfig::from_toml_str(&config.to_toml().unwrap()).unwrap().train.recompute, config.train.recompute);
            Ok::<_, String>(config.train.recompute)
        };
        for (value, want) in [
            ("\"none\"", Recompute::None),
            ("\"operations\"", Recompute::Operations),
            ("\"blocks\"", Recompute::Blocks),
            ("false", Recompute::None),
            ("true", Recompute::Operations),
        ] {
            assert_eq!(read(value), Ok(want));
        }
        assert_eq!(RunConfig::from_toml_str("").unwrap().train.recompute, Recompute::None);
        for wrong in ["\"block\"", "2"] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("`train.recompute`") && error.contains("\"none\", \"operations\" or \"blocks\""), "{error}");
        }
    }
}
