//! A reader of pickles that builds values and calls nothing: what TorchScript writes, protocols 2 to 4.

use std::collections::HashMap;

/// Values of one pickle; they name each other by number, so that what is shared is read once.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<Value>);

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing, a truth value, a number that is no integer, bytes.
    Other,
    Integer(i64),
    Text(String),
    /// A tuple or a list.
    Items(Vec<usize>),
    Dictionary(Vec<(usize, usize)>),
    /// A class or function, by module and name.
    Global(String),
    /// A function that would be called, or a class of which an instance would be made.
    Call {
        function: usize,
        arguments: usize,
    },
    /// An instance whose state was set.
    Instance {
        state: usize,
    },
    /// What lies outside of the pickle.
    Persistent(usize),
}

impl Values {
    pub(super) fn get(&self, at: usize) -> &Value {
        self.0.get(at).unwrap_or(&Value::Other)
    }

    /// The items of a tuple or list.
    pub(super) fn items(&self, at: usize) -> Option<&[usize]> {
        match self.get(at) {
            Value::Items(items) => Some(items),
            _ => None,
        }
    }

    /// An integer that is no less than 0.
    pub(super) fn size(&self, at: usize) -> Option<usize> {
        match self.get(at) {
            Value::Integer(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The attributes of an instance.
    pub(super) fn attributes(&self, at: usize) -> Option<&[(usize, usize)]> {
        match self.get(at) {
            Value::Instance { state } => match self.get(*state) {
                Value::Dictionary(pairs) => Some(pairs),
                _ => None,
            },
            _ => None,
        }
    }

    fn add(&mut self, value: Value) -> usize {
        self.0.push(value);
        self.0.len() - 1
    }
}

/// Bytes of a pickle, read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.0.split_at_checked(count).ok_or("it is cut")?;
        self.0 = rest;
        Ok(head)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, String> {
        let value = self.take(bytes)?.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).map_err(|e| e.to_string())
    }

    fn line(&mut self) -> Result<String, String> {
        let end = self.0.iter().position(|byte| *byte == b'\n').ok_or("it is cut")?;
        let line = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn text(&mut self, length: usize) -> Result<Value, String> {
        let bytes = self.take(length)?;
        Ok(Value::Text(String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string())?))
    }

    /// A little-endian integer of any length, in two's complement.
    fn long(&mut self, length: usize) -> Result<Value, String> {
        let bytes = self.take(length)?;
        if length > 8 {
            return Ok(Value::Other);
        }
        let filler = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xFF } else { 0 };
        let mut all = [filler; 8];
        all[..length].copy_from_slice(bytes);
        Ok(Value::Integer(i64::from_le_bytes(all)))
    }
}

/// What the machine that a pickle is written for holds.
#[derive(Default)]
struct Machine {
    values: Values,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: HashMap<usize, usize>,
}

impl Machine {
    fn push(&mut self, value: Value) {
        let at = self.values.add(value);
        self.stack.push(at);
    }

    fn pop(&mut self) -> Result<usize, String> {
        self.stack.pop().ok_or_else(|| "it takes more values than it has".to_owned())
    }

    fn since_mark(&mut self) -> Result<Vec<usize>, String> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, count: usize) -> Result<(), String> {
        let from = self.stack.len().checked_sub(count).ok_or("it takes more values than it has")?;
        let items = self.stack.split_off(from);
        self.push(Value::Items(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<usize>) -> Result<(), String> {
        match self.stack.last().and_then(|at| self.values.0.get_mut(*at)) {
            Some(Value::Items(list)) => {
                list.extend(items);
                Ok(())
            }
            // The list of an instance that would have been made by a call.
            Some(_) => Ok(()),
            None => Err("it has no list to add to".into()),
        }
    }

    fn set(&mut self, items: &[usize]) -> Result<(), String> {
        match self.stack.last().and_then(|at| self.values.0.get_mut(*at)) {
            Some(Value::Dictionary(pairs)) => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            Some(_) => Ok(()),
            None => Err("it has no dictionary to add to".into()),
        }
    }

    fn keep(&mut self, place: usize) -> Result<(), String> {
        let top = *self.stack.last().ok_or("it keeps a value that it has not")?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: usize) -> Result<(), String> {
        let at = *self.memo.get(&place).ok_or("it recalls a value that it never kept")?;
        self.stack.push(at);
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        self.push(Value::Call { function, arguments });
        Ok(())
    }
}

/// The values of a pickle, and the number of the one that it stands for.
///
/// # Errors
/// A pickle that is cut, contradicts itself, or uses what TorchScript does not.
pub(super) fn unpickle(bytes: &[u8]) -> Result<(Values, usize), String> {
    let (mut bytes, mut machine) = (Bytes(bytes), Machine::default());
    loop {
        let code = bytes.take(1)?[0];
        match code {
            // Protocol, frame.
            0x80 => drop(bytes.take(1)?),
            0x95 => drop(bytes.take(8)?),
            b'.' => {
                let top = machine.pop()?;
                return Ok((machine.values, top));
            }
            b'(' => machine.marks.push(machine.stack.len()),
            b'0' => drop(machine.pop()?),
            b'N' | 0x88 | 0x89 => machine.push(Value::Other),
            b'G' => {
                bytes.take(8)?;
                machine.push(Value::Other);
            }
            b'K' | b'M' => {
                let value = bytes.number(if code == b'K' { 1 } else { 2 })?;
                machine.push(Value::Integer(value as i64));
            }
            b'J' | 0x8A | 0x8B => {
                let length = match code {
                    b'J' => 4,
                    0x8A => bytes.number(1)?,
                    _ => bytes.number(4)?,
                };
                let value = bytes.long(length)?;
                machine.push(value);
            }
            b'X' | 0x8C | 0x8D => {
                let length = bytes.number(match code {
                    b'X' => 4,
                    0x8C => 1,
                    _ => 8,
                })?;
                let value = bytes.text(length)?;
                machine.push(value);
            }
            // Strings and bytes of unknown meaning.
            b'T' | b'U' | b'B' | b'C' => {
                let length = bytes.number(if matches!(code, b'T' | b'B') { 4 } else { 1 })?;
                bytes.take(length)?;
                machine.push(Value::Other);
            }
            b')' | b']' => machine.push(Value::Items(Vec::new())),
            b'}' => machine.push(Value::Dictionary(Vec::new())),
            b't' | b'l' => {
                let items = machine.since_mark()?;
                machine.push(Value::Items(items));
            }
            b'd' => {
                let items = machine.since_mark()?;
                machine.push(Value::Dictionary(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()));
            }
            0x85..=0x87 => machine.tuple(usize::from(code - 0x84))?,
            b'a' => {
                let item = machine.pop()?;
                machine.append(vec![item])?;
            }
            b'e' => {
                let items = machine.since_mark()?;
                machine.append(items)?;
            }
            b's' => {
                let (value, key) = (machine.pop()?, machine.pop()?);
                machine.set(&[key, value])?;
            }
            b'u' => {
                let items = machine.since_mark()?;
                machine.set(&items)?;
            }
            b'c' => {
                let (module, name) = (bytes.line()?, bytes.line()?);
                machine.push(Value::Global(format!("{module}.{name}")));
            }
            b'R' | 0x81 => machine.call()?,
            b'b' => {
                let (state, _) = (machine.pop()?, machine.pop()?);
                machine.push(Value::Instance { state });
            }
            b'Q' => {
                let id = machine.pop()?;
                machine.push(Value::Persistent(id));
            }
            b'q' | b'r' => {
                let place = bytes.number(if code == b'q' { 1 } else { 4 })?;
                machine.keep(place)?;
            }
            0x94 => machine.keep(machine.memo.len())?,
            b'h' | b'j' => {
                let place = bytes.number(if code == b'h' { 1 } else { 4 })?;
                machine.recall(place)?;
            }
            other => return Err(format!("code {other:#04x} is none that TorchScript writes")),
        }
    }
}
