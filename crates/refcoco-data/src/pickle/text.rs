//! Texts of protocol 0: Python's quoted literals and raw-unicode-escape.

use super::{BAD_TEXT, Step};

/// Python 2's `repr` of a `str`.
pub(super) fn quoted(line: &[u8]) -> Step<String> {
    let inner = match line {
        [q @ (b'\'' | b'"'), inner @ .., end] if q == end => inner,
        _ => return Err(BAD_TEXT),
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        out.push(match bytes.next().ok_or(BAD_TEXT)? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'x' => hex(&mut bytes, 2)? as u8,
            c @ (b'\\' | b'\'' | b'"') => c,
            _ => return Err(BAD_TEXT),
        });
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// "raw-unicode-escape": Latin-1 with \uXXXX and \UXXXXXXXX; narrow Python 2 wrote surrogate pairs.
pub(super) fn raw_unicode(line: &[u8]) -> Step<String> {
    let mut units: Vec<u16> = Vec::with_capacity(line.len());
    let mut rest = line;
    while let [b, tail @ ..] = rest {
        rest = tail;
        let width = match (b, tail.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                units.push(u16::from(*b));
                continue;
            }
        };
        let mut digits = tail[1..].iter().copied();
        let code = hex(&mut digits, width)?;
        rest = &tail[1 + width..];
        match u16::try_from(code) {
            Ok(unit) => units.push(unit),
            Err(_) => {
                let c = char::from_u32(code).ok_or(BAD_TEXT)?;
                units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            }
        }
    }
    Ok(String::from_utf16_lossy(&units))
}

fn hex(bytes: &mut impl Iterator<Item = u8>, digits: usize) -> Step<u32> {
    (0..digits).try_fold(0, |v, _| {
        let digit = bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or(BAD_TEXT)?;
        Ok(v << 4 | digit)
    })
}
