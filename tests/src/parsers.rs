//! The hand-written parsers on any bytes. `mutations` damages valid files for them; `fuzz/` feeds them what libFuzzer finds.
//!
//! Each says whether the bytes were accepted, and panics where what was read is not what was meant: a mask that is written and
//! read again must be the same one.

use std::path::Path;

use coco_mask::Rle;
use nn_ops::weights::StateDict;
use refcoco_data::{brush_rle, from_brush_rle, read_pickle};
use text_encoders::TextTokenizer;
use text_encoders::tokenizer::{Beit3Tokenizer, ClipTokenizer, WordPiece};

/// What a tokenizer is asked.
const SENTENCE: &str = "left zebra, behind the tree";

/// COCO's compressed run lengths, of 40 rows and 50 columns.
pub fn rle(bytes: &[u8]) -> bool {
    let Ok(mask) = Rle::from_compressed(40, 50, bytes) else { return false };
    let again = Rle::from_compressed(40, 50, mask.to_compressed()).expect("what was written is read");
    assert_eq!(mask.counts(), again.counts());
    assert_eq!(mask.area(), mask.to_row_major().iter().map(|pixel| u64::from(*pixel)).sum::<u64>());
    true
}

/// Label Studio's brush masks, of 50 columns and 40 rows.
pub fn brush(bytes: &[u8]) -> bool {
    let Ok(mask) = from_brush_rle(bytes, (50, 40)) else { return false };
    assert_eq!(from_brush_rle(&brush_rle(&mask), (50, 40)).expect("what was packed is unpacked"), mask);
    true
}

/// Python pickles of plain data: REFER's `refs(*).p`.
pub fn pickle(bytes: &[u8]) -> bool {
    read_pickle(Path::new("refs.p"), bytes).is_ok()
}

/// SentencePiece models: BEiT-3's.
pub fn sentencepiece(bytes: &[u8]) -> bool {
    encodes(Beit3Tokenizer::from_bytes("beit3.spm", bytes.to_vec()))
}

/// WordPiece vocabularies: BERT's.
pub fn vocabulary(bytes: &[u8]) -> bool {
    encodes(WordPiece::from_bytes("vocab.txt", bytes.to_vec()))
}

/// Byte-pair merges: CLIP's.
pub fn merges(bytes: &[u8]) -> bool {
    encodes(ClipTokenizer::from_bytes("merges.txt", bytes.to_vec()))
}

/// safetensors files.
pub fn safetensors(bytes: &[u8]) -> bool {
    StateDict::from_bytes("w.safetensors", bytes.to_vec()).is_ok_and(|file| reads(&file))
}

/// Whether any tensor of it can be read.
pub fn reads(file: &StateDict) -> bool {
    file.names().filter(|name| file.read(name).is_ok()).count() > 0
}

fn encodes(tokenizer: Result<impl TextTokenizer, text_encoders::TextError>) -> bool {
    tokenizer.is_ok_and(|tokenizer| tokenizer.encode(SENTENCE, 20).is_ok())
}
