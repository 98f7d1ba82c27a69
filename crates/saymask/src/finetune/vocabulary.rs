//! New words of one's own data: tokens and rows of the embedding table that the base does not have yet.

use anyhow::{Context, Result};
use models::tokenizer::Grown;
use nn_ops::weights::StateDict;

/// How the tables of word embeddings are called: BERT's and ViLT's, BEiT-3's.
const TABLES: [&str; 2] = ["word_embeddings.weight", "text_embed.weight"];

/// Adds a row per new word to the table of word embeddings of a model with `before` tokens. A word starts from the mean of the pieces that it was cut
/// into, so that it means what it meant before until it is trained.
pub(super) fn grow(weights: &mut StateDict, before: usize, grown: &Grown) -> Result<()> {
    let of_words = |name: &&str| TABLES.iter().any(|table| name.ends_with(table));
    let is_table =
        |name: &&str| of_words(name) && weights.shape(name).is_some_and(|shape| shape.len() == 2 && shape[0] == before);
    let name = weights.names().find(is_table).context("the base has no table of word embeddings for its vocabulary")?.to_owned();
    let width = weights.shape(&name).map_or(0, |shape| shape[1]);
    let mut rows = weights.read(&name)?;
    for (_, pieces) in &grown.words {
        let mean = |at: usize| {
            let sum: f32 = pieces.iter().map(|id| rows[*id as usize * width + at]).sum();
            sum / pieces.len().max(1) as f32
        };
        let row: Vec<f32> = (0..width).map(mean).collect();
        rows.extend(row);
    }
    weights.insert(name, &[before + grown.words.len(), width], rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use models::tokenizer::RunTokenizer;
    use run_config::RunConfig;

    use super::*;

    #[test]
    fn a_new_word_starts_from_the_mean_of_its_pieces() {
        let config = RunConfig::from_toml_str("").unwrap();
        let vocabulary = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nze\n##bra\n".to_vec();
        let tokenizer = RunTokenizer::from_bytes(&config, &[("vocab.txt".to_owned(), vocabulary)]).unwrap();
        let grown = tokenizer.with_words(["zebra"]).unwrap().unwrap();
        let mut weights = StateDict::empty("w");
        let name = "text_encoder.embeddings.word_embeddings.weight";
        weights.insert(name, &[6, 2], (0..12).map(|v| v as f32).collect());
        weights.insert("other.weight", &[6, 2], vec![0.0; 12]);
        grow(&mut weights, 6, &grown).unwrap();
        assert_eq!(weights.shape(name), Some(&[7, 2][..]));
        assert_eq!(weights.read(name).unwrap()[10..], [10.0, 11.0, 9.0, 10.0]);
        assert_eq!(weights.shape("other.weight"), Some(&[6, 2][..]));
        assert!(grow(&mut weights, 6, &grown).is_err());
    }
}
