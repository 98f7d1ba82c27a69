//! Python pickles as plain values.
//!
//! An own reader of the opcodes that plain data needs, because refs files must be read whatever they share: decoders
//! that build nested values at once either lose values that are referred to more than once or follow references
//! without limit. Here values lie flat in a table until the end, and are then written out within bounds. Nothing in
//! the file is ever executed.

mod text;

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::DataError;
use text::{quoted, raw_unicode};

/// Refs files nest four deep within a record.
const MAX_DEPTH: u32 = 32;
/// How many values and bytes of text a byte of the file may stand for once all references are written out. Honest files
/// stay below 6: two bytes recall a key of a dozen letters.
const MAX_GROWTH: u64 = 64;

/// Reads a pickled list, one record at a time as a JSON-like value. Protocols 0 to 5; Python 2's `str` is taken as UTF-8
/// with replacement characters; tuples become lists. `path` is for messages.
///
/// # Errors
/// A file that is cut or damaged, that is no list, that holds other than plain data, or that grows beyond its size.
pub fn read_pickle(path: &Path, bytes: &[u8]) -> Result<Vec<Value>, DataError> {
    let fail = |reason: String| DataError::Pickle { path: path.into(), reason };
    // Protocol 0 is text, so a careless transfer may "fix" its line ends. Parts of such a file would still decode, with
    // stray carriage returns in the text, so it is refused as a whole.
    let first_line = bytes.iter().position(|&b| b == b'\n').unwrap_or(0);
    if !bytes.starts_with(&[0x80]) && first_line > 0 && bytes[first_line - 1] == b'\r' {
        return Err(fail("its line ends were changed to CRLF; fetch the file again in binary mode".into()));
    }
    let mut machine = Machine { rest: bytes, ..Machine::default() };
    let root = machine.run().map_err(|what| {
        let at = bytes.len() - machine.rest.len();
        fail(format!("{what} at byte {at} (the file may be cut short; compare its size or fetch it again)"))
    })?;
    let Node::List(records) = &machine.nodes[root] else {
        return Err(DataError::field(path, "(top level)", "a list of records", "another kind of object"));
    };
    let mut budget = (bytes.len() as u64 + 1024) * MAX_GROWTH;
    records
        .iter()
        .enumerate()
        .map(|(i, &r)| machine.write_out(r, 1, &mut budget).map_err(|what| fail(format!("refs[{i}]: {what}"))))
        .collect()
}

enum Node {
    Scalar(Value),
    /// Python's `bytes` and Python 2's `str`.
    Bytes(Vec<u8>),
    List(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Callable(Callable),
    Dtype(Dtype),
}

/// What may be called: what numpy's numbers are made of. Nothing is imported; the calls are done here.
#[derive(Clone, Copy)]
enum Callable {
    /// `numpy.core.multiarray.scalar(dtype, bytes)`.
    Scalar,
    /// `numpy.dtype(text, align, copy)`.
    Dtype,
    /// `_codecs.encode(text, "latin1")`: how older protocols write bytes.
    Encode,
}

impl Callable {
    fn named(module: &[u8], name: &[u8]) -> Step<Self> {
        match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"scalar") => Ok(Self::Scalar),
            (b"numpy", b"dtype") => Ok(Self::Dtype),
            (b"_codecs", b"encode") => Ok(Self::Encode),
            _ => Err(OBJECT),
        }
    }
}

/// The type of a numpy number.
#[derive(Clone, Copy)]
struct Dtype {
    /// `i`, `u`, `f` or `b`.
    kind: u8,
    bytes: usize,
    big_endian: bool,
}

impl Dtype {
    fn named(text: &[u8]) -> Step<Self> {
        let (big_endian, text) = match text {
            [b'<' | b'|' | b'=', rest @ ..] => (false, rest),
            [b'>', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        match text {
            [kind @ (b'i' | b'u' | b'f' | b'b'), size @ (b'1' | b'2' | b'4' | b'8')] => {
                Ok(Self { kind: *kind, bytes: usize::from(size - b'0'), big_endian })
            }
            _ => Err(OBJECT),
        }
    }

    fn value(self, raw: &[u8]) -> Step<Value> {
        if raw.len() != self.bytes {
            return Err(BAD_NUMBER);
        }
        let digit = |v: u64, b: &u8| (v << 8) | u64::from(*b);
        let bits = if self.big_endian { raw.iter().fold(0, digit) } else { raw.iter().rev().fold(0, digit) };
        let spare = 64 - 8 * self.bytes as u32;
        match (self.kind, self.bytes) {
            (b'i', _) => Ok((((bits << spare) as i64) >> spare).into()),
            (b'u', _) => Ok(bits.into()),
            (b'b', 1) => Ok((bits != 0).into()),
            (b'f', 4) => Ok(f64::from(f32::from_bits(bits as u32)).into()),
            (b'f', 8) => Ok(f64::from_bits(bits).into()),
            _ => Err(OBJECT),
        }
    }
}

type Step<T> = Result<T, &'static str>;

const SHORT: &str = "it ends in the middle of a value";
const EMPTY: &str = "it takes more values than it holds";
const BAD_TEXT: &str = "a text is not written as Python writes it";
const OBJECT: &str = "it holds an object; only lists, dictionaries, text, numbers and numpy's numbers are read";
const BAD_NUMBER: &str = "a number is not written as Python writes it, or is beyond 64 bits";

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    nodes: Vec<Node>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: HashMap<u64, usize>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, n: u64) -> Step<&'a [u8]> {
        let n = usize::try_from(n).ok().filter(|n| *n <= self.rest.len()).ok_or(SHORT)?;
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, n: u64) -> Step<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |v, &b| (v << 8) | u64::from(b)))
    }

    fn line(&mut self) -> Step<&'a [u8]> {
        let end = self.rest.iter().position(|&b| b == b'\n').ok_or(SHORT)?;
        let line = self.take(end as u64)?;
        self.take(1)?;
        Ok(line)
    }

    fn parsed<T: std::str::FromStr>(&mut self) -> Step<T> {
        let line = self.line()?;
        let text = std::str::from_utf8(line).map_err(|_| BAD_NUMBER)?;
        text.trim().trim_end_matches('L').parse().map_err(|_| BAD_NUMBER)
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn scalar(&mut self, value: impl Into<Value>) {
        self.push(Node::Scalar(value.into()));
    }

    /// The values above the last mark.
    fn marked(&mut self) -> Step<Vec<usize>> {
        let mark = self.marks.pop().ok_or("it closes a group that was never opened")?;
        if mark > self.stack.len() {
            return Err(EMPTY);
        }
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self, n: usize) -> Step<Vec<usize>> {
        let at = self.stack.len().checked_sub(n).ok_or(EMPTY)?;
        Ok(self.stack.split_off(at))
    }

    fn append(&mut self, items: &[usize]) -> Step<()> {
        match self.stack.last().map(|&at| &mut self.nodes[at]) {
            Some(Node::List(list)) => list.extend(items),
            _ => return Err("it appends to something that is no list"),
        }
        Ok(())
    }

    fn set(&mut self, items: &[usize]) -> Step<()> {
        match self.stack.last().map(|&at| &mut self.nodes[at]) {
            Some(Node::Dict(dict)) => dict.extend(pairs(items)?),
            _ => return Err("it sets a key of something that is no dictionary"),
        }
        Ok(())
    }

    fn put(&mut self, key: u64) -> Step<()> {
        self.memo.insert(key, *self.stack.last().ok_or(EMPTY)?);
        Ok(())
    }

    fn get(&mut self, key: u64) -> Step<()> {
        self.stack.push(*self.memo.get(&key).ok_or("it recalls a value that was never remembered")?);
        Ok(())
    }

    fn run(&mut self) -> Step<usize> {
        loop {
            let op = self.number(1)? as u8;
            match op {
                b'.' => return self.stack.pop().ok_or(EMPTY),
                0x80 => self.take(1).map(drop)?,
                0x95 => self.take(8).map(drop)?,
                b'(' => self.marks.push(self.stack.len()),
                b']' | b')' => self.push(Node::List(Vec::new())),
                b'}' => self.push(Node::Dict(Vec::new())),
                b'l' | b't' => {
                    let items = self.marked()?;
                    self.push(Node::List(items));
                }
                b'd' => {
                    let items = self.marked()?;
                    self.push(Node::Dict(pairs(&items)?));
                }
                0x85..=0x87 => {
                    let items = self.top(usize::from(op - 0x84))?;
                    self.push(Node::List(items));
                }
                b'a' => {
                    let items = self.top(1)?;
                    self.append(&items)?;
                }
                b'e' => {
                    let items = self.marked()?;
                    self.append(&items)?;
                }
                b's' => {
                    let items = self.top(2)?;
                    self.set(&items)?;
                }
                b'u' => {
                    let items = self.marked()?;
                    self.set(&items)?;
                }
                b'p' => self.parsed().and_then(|key| self.put(key))?,
                b'q' => self.number(1).and_then(|key| self.put(key))?,
                b'r' => self.number(4).and_then(|key| self.put(key))?,
                0x94 => self.put(self.memo.len() as u64)?,
                b'g' => self.parsed().and_then(|key| self.get(key))?,
                b'h' => self.number(1).and_then(|key| self.get(key))?,
                b'j' => self.number(4).and_then(|key| self.get(key))?,
                _ => self.simple(op)?,
            }
        }
    }

    /// Opcodes that push one plain value.
    fn simple(&mut self, op: u8) -> Step<()> {
        match op {
            b'N' => self.scalar(Value::Null),
            0x88 => self.scalar(true),
            0x89 => self.scalar(false),
            b'I' if self.rest.starts_with(b"00\n") || self.rest.starts_with(b"01\n") => {
                let value = self.line()? == b"01";
                self.scalar(value);
            }
            b'I' | b'L' => {
                let value: i64 = self.parsed()?;
                self.scalar(value);
            }
            b'F' => {
                let value: f64 = self.parsed()?;
                self.scalar(value);
            }
            b'G' => {
                let value = f64::from_bits(self.number(8)?.swap_bytes());
                self.scalar(value);
            }
            b'K' | b'M' => {
                let value = self.number(if op == b'K' { 1 } else { 2 })?;
                self.scalar(value);
            }
            b'J' => {
                let value = self.number(4)? as u32 as i32;
                self.scalar(value);
            }
            0x8a => {
                let n = self.number(1)?;
                let raw = self.take(n)?;
                if raw.len() > 8 {
                    return Err(BAD_NUMBER);
                }
                let value = raw.iter().rev().fold(0u64, |v, &b| (v << 8) | u64::from(b));
                // Two's complement of n bytes: bring the sign to the top and back.
                let spare = 64 - 8 * raw.len() as u32;
                let value = if raw.is_empty() { 0 } else { ((value << spare) as i64) >> spare };
                self.scalar(value);
            }
            b'U' | b'C' | 0x8c | b'T' | b'X' | b'B' | 0x8d | 0x8e => {
                let width = match op {
                    b'U' | b'C' | 0x8c => 1,
                    b'T' | b'X' | b'B' => 4,
                    _ => 8,
                };
                let n = self.number(width)?;
                let raw = self.take(n)?;
                match op {
                    b'X' | 0x8c | 0x8d => self.scalar(String::from_utf8_lossy(raw).into_owned()),
                    _ => self.push(Node::Bytes(raw.to_vec())),
                }
            }
            b'S' => {
                let text = quoted(self.line()?)?;
                self.scalar(text);
            }
            b'V' => {
                let text = raw_unicode(self.line()?)?;
                self.scalar(text);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Callable(Callable::named(module, name)?));
            }
            0x93 => {
                let names = self.top(2)?;
                let callable = Callable::named(self.raw(names[0])?, self.raw(names[1])?)?;
                self.push(Node::Callable(callable));
            }
            b'R' => {
                let parts = self.top(2)?;
                let made = self.call(parts[0], parts[1])?;
                self.push(made);
            }
            b'b' => {
                let state = self.top(1)?[0];
                self.build(state)?;
            }
            _ => return Err(OBJECT),
        }
        Ok(())
    }

    /// The bytes of a text.
    fn raw(&self, at: usize) -> Step<&[u8]> {
        match &self.nodes[at] {
            Node::Bytes(bytes) => Ok(bytes),
            Node::Scalar(Value::String(text)) => Ok(text.as_bytes()),
            _ => Err(OBJECT),
        }
    }

    /// What a call gives.
    fn call(&self, callable: usize, args: usize) -> Step<Node> {
        let (Node::Callable(callable), Node::List(args)) = (&self.nodes[callable], &self.nodes[args]) else { return Err(OBJECT) };
        match (callable, args.as_slice()) {
            (Callable::Dtype, [name, ..]) => Ok(Node::Dtype(Dtype::named(self.raw(*name)?)?)),
            (Callable::Scalar, [dtype, bytes]) => match (&self.nodes[*dtype], &self.nodes[*bytes]) {
                (Node::Dtype(dtype), Node::Bytes(raw)) => Ok(Node::Scalar(dtype.value(raw)?)),
                _ => Err(OBJECT),
            },
            (Callable::Encode, [text, _]) => match &self.nodes[*text] {
                // Latin-1: one byte per character.
                Node::Scalar(Value::String(text)) => {
                    text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| BAD_TEXT)).collect::<Step<_>>().map(Node::Bytes)
                }
                _ => Err(OBJECT),
            },
            _ => Err(OBJECT),
        }
    }

    /// A dtype's state: (version, byte order, ..).
    fn build(&mut self, state: usize) -> Step<()> {
        let order = match &self.nodes[state] {
            Node::List(parts) => parts.get(1).and_then(|at| self.raw(*at).ok()).and_then(<[u8]>::first).copied(),
            _ => None,
        };
        match self.stack.last().map(|&at| &mut self.nodes[at]) {
            Some(Node::Dtype(dtype)) => {
                dtype.big_endian = order == Some(b'>');
                Ok(())
            }
            _ => Err(OBJECT),
        }
    }

    /// The value of a node with all it refers to, within bounds of depth and size.
    fn write_out(&self, at: usize, depth: u32, budget: &mut u64) -> Step<Value> {
        if depth > MAX_DEPTH {
            return Err("its values are nested too deeply, or one contains itself");
        }
        let mut spend = |n: usize| match budget.checked_sub(n as u64 + 1) {
            Some(left) => {
                *budget = left;
                Ok(())
            }
            None => Err("its values are too large when written out"),
        };
        match &self.nodes[at] {
            Node::Scalar(value) => {
                spend(value.as_str().map_or(0, str::len))?;
                Ok(value.clone())
            }
            Node::Bytes(raw) => {
                spend(raw.len())?;
                Ok(String::from_utf8_lossy(raw).into_owned().into())
            }
            Node::Callable(_) | Node::Dtype(_) => Err(OBJECT),
            Node::List(items) => {
                spend(0)?;
                items.iter().map(|&i| self.write_out(i, depth + 1, budget)).collect()
            }
            Node::Dict(items) => {
                spend(0)?;
                let mut map = Map::new();
                for &(key, value) in items {
                    let key = match &self.nodes[key] {
                        Node::Scalar(Value::String(key)) => key.clone(),
                        Node::Bytes(key) => String::from_utf8_lossy(key).into_owned(),
                        Node::Scalar(Value::Number(key)) => key.to_string(),
                        _ => return Err("a dictionary has keys that are neither text nor numbers"),
                    };
                    map.insert(key, self.write_out(value, depth + 1, budget)?);
                }
                Ok(map.into())
            }
        }
    }
}

fn pairs(items: &[usize]) -> Step<Vec<(usize, usize)>> {
    if !items.len().is_multiple_of(2) {
        return Err("a dictionary has a key without a value");
    }
    Ok(items.chunks_exact(2).map(|p| (p[0], p[1])).collect())
}

#[cfg(test)]
mod tests;
