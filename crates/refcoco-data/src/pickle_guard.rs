//! A look at a pickle's opcodes before it is decoded.
//!
//! The decoder builds nested values and follows memo references without limit, so a few hundred bytes could exhaust
//! stack or memory. This walk keeps only depth and size of every value and refuses what refs files never need.

use std::collections::HashMap;

/// Refs files nest five deep.
const MAX_DEPTH: u32 = 32;
/// Bytes of text and values once all references are written out.
const MAX_SIZE: u64 = 1 << 31;

#[derive(Clone, Copy)]
struct Item {
    depth: u32,
    size: u64,
    /// A container whose parts may still change, by its number; a copy from the memo is closed.
    open: Option<usize>,
}

#[derive(Default)]
struct Walk {
    stack: Vec<Item>,
    marks: Vec<usize>,
    // Closed containers and scalars, or the number of an open container.
    memo: HashMap<u64, Result<Item, usize>>,
    closed: HashMap<usize, Item>,
    opened: usize,
}

const SHORT: &str = "it ends in the middle of a value";

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: u64) -> Result<&'a [u8], &'static str> {
        let n = usize::try_from(n)
            .ok()
            .filter(|n| *n <= self.0.len())
            .ok_or(SHORT)?;
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        Ok(head)
    }

    fn number(&mut self, n: u64) -> Result<u64, &'static str> {
        Ok(self
            .take(n)?
            .iter()
            .rev()
            .fold(0, |v, &b| (v << 8) | u64::from(b)))
    }

    fn line(&mut self) -> Result<&'a [u8], &'static str> {
        let end = self.0.iter().position(|&b| b == b'\n').ok_or(SHORT)?;
        self.take(end as u64 + 1)
    }

    fn line_number(&mut self) -> Result<u64, &'static str> {
        let line = self.line()?;
        std::str::from_utf8(line)
            .ok()
            .and_then(|s| s.trim().parse().ok())
            .ok_or("a memo key is not a number")
    }
}

impl Walk {
    fn scalar(&mut self, size: u64) {
        self.stack.push(Item {
            depth: 0,
            size: size + 1,
            open: None,
        });
    }

    fn pop(&mut self) -> Result<Item, &'static str> {
        let item = self
            .stack
            .pop()
            .ok_or("it takes more values than it holds")?;
        if let Some(number) = item.open {
            self.closed.insert(number, Item { open: None, ..item });
        }
        Ok(item)
    }

    /// Opens a container of the top `n` values.
    fn container(&mut self, n: usize) -> Result<(), &'static str> {
        let mut out = Item {
            depth: 1,
            size: 1,
            open: Some(self.opened),
        };
        self.opened += 1;
        for _ in 0..n {
            include(&mut out, self.pop()?)?;
        }
        self.stack.push(out);
        Ok(())
    }

    /// Puts the top `n` values into the container below them.
    fn extend(&mut self, n: usize) -> Result<(), &'static str> {
        let mut parts = Item {
            depth: 0,
            size: 0,
            open: None,
        };
        for _ in 0..n {
            include(&mut parts, self.pop()?)?;
        }
        let target = self
            .stack
            .last_mut()
            .ok_or("it takes more values than it holds")?;
        if target.open.is_none() {
            return Err("it changes a value after its use");
        }
        target.depth = target.depth.max(parts.depth);
        target.size = target.size.saturating_add(parts.size);
        Ok(())
    }

    fn marked(&mut self) -> Result<usize, &'static str> {
        let mark = self
            .marks
            .pop()
            .ok_or("it closes a group that was never opened")?;
        self.stack
            .len()
            .checked_sub(mark)
            .ok_or("it takes more values than it holds")
    }

    fn put(&mut self, key: u64) -> Result<(), &'static str> {
        let item = *self
            .stack
            .last()
            .ok_or("it remembers a value that is not there")?;
        let remembered = match item.open {
            Some(number) => Err(number),
            None => Ok(item),
        };
        self.memo.insert(key, remembered);
        Ok(())
    }

    fn get(&mut self, key: u64) -> Result<(), &'static str> {
        let item = match self.memo.get(&key) {
            Some(Ok(item)) => *item,
            Some(Err(number)) => *self.closed.get(number).ok_or("a value contains itself")?,
            None => return Err("it recalls a value that was never remembered"),
        };
        self.stack.push(item);
        Ok(())
    }
}

fn include(into: &mut Item, part: Item) -> Result<(), &'static str> {
    into.depth = into.depth.max(part.depth + 1);
    into.size = into.size.saturating_add(part.size);
    if into.depth > MAX_DEPTH {
        return Err("its values are nested too deeply");
    }
    if into.size > MAX_SIZE {
        return Err("its values are too large when written out");
    }
    Ok(())
}

/// Whether a pickle can be decoded with bounded stack and memory.
pub(crate) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let mut b = Bytes(bytes);
    let mut w = Walk::default();
    loop {
        let before = b.0.len();
        match b.number(1)? as u8 {
            b'.' => return Ok(()),
            0x80 => {
                b.take(1)?;
            }
            0x95 => {
                b.take(8)?;
            }
            b'(' => w.marks.push(w.stack.len()),
            b']' | b'}' | b')' | 0x8f => w.container(0)?,
            b'l' | b'd' | b't' | 0x91 => {
                let n = w.marked()?;
                w.container(n)?;
            }
            0x85 => w.container(1)?,
            0x86 => w.container(2)?,
            0x87 => w.container(3)?,
            b'a' => w.extend(1)?,
            b's' => w.extend(2)?,
            b'e' | b'u' | 0x90 => {
                let n = w.marked()?;
                w.extend(n)?;
            }
            b'I' | b'L' | b'F' | b'S' | b'V' => {
                b.line()?;
                w.scalar((before - b.0.len()) as u64);
            }
            b'N' | 0x88 | 0x89 => w.scalar(0),
            op @ (b'K' | b'M' | b'J' | b'G') => {
                b.take(match op {
                    b'K' => 1,
                    b'M' => 2,
                    b'J' => 4,
                    _ => 8,
                })?;
                w.scalar(8);
            }
            op @ (0x8a | b'U' | 0x8c | b'C' | 0x8b | b'T' | b'X' | b'B' | 0x8d | 0x8e | 0x96) => {
                let width = match op {
                    0x8a | b'U' | 0x8c | b'C' => 1,
                    0x8b | b'T' | b'X' | b'B' => 4,
                    _ => 8,
                };
                let n = b.number(width)?;
                b.take(n)?;
                w.scalar(n);
            }
            b'p' => {
                let key = b.line_number()?;
                w.put(key)?;
            }
            b'q' => {
                let key = b.number(1)?;
                w.put(key)?;
            }
            b'r' => {
                let key = b.number(4)?;
                w.put(key)?;
            }
            0x94 => w.put(w.memo.len() as u64)?,
            b'g' => {
                let key = b.line_number()?;
                w.get(key)?;
            }
            b'h' => {
                let key = b.number(1)?;
                w.get(key)?;
            }
            b'j' => {
                let key = b.number(4)?;
                w.get(key)?;
            }
            _ => return Err("it holds more than lists, dictionaries, text and numbers"),
        }
    }
}
