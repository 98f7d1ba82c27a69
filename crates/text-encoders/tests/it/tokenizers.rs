//! Ids equal those of the reference libraries on hard strings (`tests/data/tokenizers/make.py`).

use std::path::PathBuf;

use text_encoders::tokenizer::{Beit3Tokenizer, ClipCleaning, ClipTokenizer, WordPiece};
use text_encoders::{Padding, TextTokenizer};

#[derive(serde::Deserialize)]
struct Row {
    text: String,
    bert: Vec<u32>,
    bert_20: Vec<u32>,
    clip: Vec<u32>,
    clip_openai: Vec<u32>,
    beit3: Vec<u32>,
    beit3_semantic: Vec<u32>,
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers").join(name)
}

fn rows() -> Vec<Row> {
    serde_json::from_str(&std::fs::read_to_string(data("ids.json")).unwrap()).unwrap()
}

fn compare(tokenizer: &dyn TextTokenizer, want: impl Fn(&Row) -> &[u32]) {
    let rows = rows();
    assert!(rows.len() > 40);
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let got = tokenizer.encode(&row.text, 4096).unwrap().ids;
            (got != want(row)).then(|| format!("{:?}\n got {got:?}\nwant {:?}", row.text, want(row)))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn wordpiece() {
    let tokenizer = WordPiece::load(data("wordpiece.txt")).unwrap();
    compare(&tokenizer, |row| &row.bert);
    let rows = rows();
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    let batch = tokenizer.encode_batch(&texts, 20, Padding::Max).unwrap();
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(batch.row(at), row.bert_20, "{:?}", row.text);
        assert_eq!(batch.truncated()[at], row.bert.len() > 20, "{:?}", row.text);
    }
}

#[test]
fn clip() {
    let tokenizer = ClipTokenizer::load(data("clip_merges.txt")).unwrap();
    compare(&tokenizer, |row| &row.clip);
    compare(&ClipTokenizer::load_pair(data("clip_vocab.json"), data("clip_merges.txt")).unwrap(), |row| &row.clip);
    compare(&tokenizer.with_cleaning(ClipCleaning::OpenAi), |row| &row.clip_openai);
}

#[test]
fn beit3() {
    // `added_tokens.json` lies beside the model and is read with it; a copy elsewhere has none.
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("beit3.spm");
    std::fs::copy(data("beit3.spm"), &alone).unwrap();
    let base = Beit3Tokenizer::load(&alone).unwrap();
    compare(&base, |row| &row.beit3);
    compare(&base.clone().with_semantic(), |row| &row.beit3_semantic);
    let semantic = Beit3Tokenizer::load(data("beit3.spm")).unwrap();
    compare(&semantic, |row| &row.beit3_semantic);
    assert_eq!((base.vocab_size(), semantic.vocab_size()), (152, 153));
}

#[test]
fn a_damaged_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.spm");
    let bytes = std::fs::read(data("beit3.spm")).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(Beit3Tokenizer::load(&path).is_err());
    std::fs::write(&path, b"").unwrap();
    assert!(Beit3Tokenizer::load(&path).is_err());
    std::fs::write(folder.path().join("added_tokens.json"), r#"{"[semantic]": 5}"#).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let error = Beit3Tokenizer::load(&path).unwrap_err().to_string();
    assert!(error.contains("added_tokens.json") && error.contains("belongs to a piece"), "{error}");
}

/// Words and the places of their tokens: together they are the sentence, whatever the tokenizer.
#[test]
fn words_know_their_tokens() {
    let all: [Box<dyn TextTokenizer>; 3] = [
        Box::new(WordPiece::load(data("wordpiece.txt")).unwrap()),
        Box::new(ClipTokenizer::load(data("clip_merges.txt")).unwrap()),
        Box::new(Beit3Tokenizer::load(data("beit3.spm")).unwrap()),
    ];
    for tokenizer in all {
        let text = "the woman's unbelievable left-hand umbrella";
        let ids = tokenizer.encode(text, 99).unwrap().ids;
        let words = tokenizer.words(text, 99).unwrap();
        assert_eq!(words.iter().map(|w| w.0.as_str()).collect::<Vec<_>>(), text.split(' ').collect::<Vec<_>>());
        for (word, at) in &words {
            assert_eq!(ids[at.clone()], tokenizer.pieces(word).unwrap(), "{word}");
        }
        assert!(words.windows(2).all(|pair| pair[0].1.end == pair[1].1.start), "{words:?}");
        // Of a text that is cut, only whole words.
        let end = words[1].1.end;
        assert_eq!(tokenizer.words(text, end + 1).unwrap(), words[..2]);
    }
}
