//! TorchScript archives (`torch.jit.save`, OpenAI's CLIP): their tensors by name. No code of the archive is run or even read.
//!
//! Such a file is a zip with the object tree of a module in `data.pkl` and a stored entry per tensor's storage. Modules are instances
//! of classes that the archive itself defines; here an instance is its attributes and nothing else, so that a tensor's name is the
//! path of attributes that leads to it, as in the module's state dict.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use zip::{CompressionMethod, ZipArchive};

use super::error::WeightsError;
use super::state_dict::{Element, Entry, SharedReader, Source, StateDict};
use super::unpickle::{Value, Values, unpickle};

/// The object tree of ViT-L/14's archive takes 0.3 MB.
const MAX_TREE: u64 = 64 << 20;
/// Modules inside of modules; a deeper tree is hostile.
const MAX_DEPTH: usize = 64;
/// Attributes that are looked at; ViT-L/14's archive has some thousands. One module under many names would have no end.
const MAX_ATTRIBUTES: usize = 1 << 20;
/// What an archive has and a state dict of `torch.save` has not.
const MARK: &str = "/constants.pkl";

/// The tensors of a TorchScript archive; nothing for a file that is none.
///
/// # Errors
/// An archive that is damaged, or whose tensors are kept in a way that PyTorch does not write.
pub(super) fn open(path: &Path) -> Result<Option<StateDict>, WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let bad = |what: String| WeightsError::Format { path: path.to_owned(), what: format!("TorchScript archive: {what}") };
    let Ok(mut archive) = ZipArchive::new(File::open(path).map_err(io)?) else { return Ok(None) };
    let root = archive.file_names().find_map(|name| Some(name.ok()?.strip_suffix(MARK)?.to_owned()));
    let Some(root) = root else { return Ok(None) };
    let mut tree = Vec::new();
    let entry = archive.by_name(&format!("{root}/data.pkl")).map_err(|e| bad(format!("data.pkl: {e}")))?;
    if entry.size() > MAX_TREE {
        return Err(bad(format!("data.pkl claims {} bytes", entry.size())));
    }
    entry.take(MAX_TREE).read_to_end(&mut tree).map_err(io)?;
    let (values, top) = unpickle(&tree).map_err(|what| bad(format!("data.pkl: {what}")))?;
    let mut modules = Modules { values: &values, path: String::new(), looked_at: 0, found: Vec::new() };
    modules.collect(top, 0).map_err(&bad)?;
    let found = modules.found;

    let shared: SharedReader = Arc::new(Mutex::new(Box::new(File::open(path).map_err(io)?)));
    let mut entries = BTreeMap::new();
    for (name, tensor) in found {
        let fail = |what: String| WeightsError::Tensor { path: path.to_owned(), name: name.clone(), what };
        let storage = archive.by_name(&format!("{root}/data/{}", tensor.key)).map_err(|e| fail(format!("its storage: {e}")))?;
        if storage.compression() != CompressionMethod::Stored {
            return Err(fail("its storage is compressed, which PyTorch does not do".into()));
        }
        let (start, held) =
            (storage.data_start().ok_or_else(|| fail("its storage has no place in the file".into()))?, storage.size());
        let element = element(&tensor.kind);
        let count = tensor.contiguous().ok_or_else(|| {
            fail(format!("shape {:?} with strides {:?} is not laid out row after row", tensor.shape, tensor.strides))
        })?;
        let size = element.size();
        let bytes = count.checked_mul(size).ok_or_else(|| fail("is larger than any file".into()))?;
        let from = tensor.offset.checked_mul(size).ok_or_else(|| fail("begins beyond any file".into()))?;
        if (from as u64).checked_add(bytes as u64).is_none_or(|end| end > held) {
            return Err(fail(format!("{count} numbers from {} on do not lie in a storage of {held} bytes", tensor.offset)));
        }
        let source = Source::Plain { file: shared.clone(), offset: start + from as u64, bytes };
        entries.insert(name.clone(), Entry { shape: tensor.shape, element, source, rows: None });
    }
    Ok(Some(StateDict::from_entries(path, entries)))
}

/// How PyTorch's storage classes keep a number.
fn element(kind: &str) -> Element {
    match kind {
        "DoubleStorage" => Element::F64,
        "FloatStorage" => Element::F32,
        "HalfStorage" => Element::F16,
        "BFloat16Storage" => Element::Bf16,
        _ => Element::Integer,
    }
}

/// A tensor as `data.pkl` describes it.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    key: String,
    kind: String,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Found {
    /// Number of elements, if they follow each other row after row.
    fn contiguous(&self) -> Option<usize> {
        let mut count = 1usize;
        for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *size != 1 && *stride != count {
                return None;
            }
            count = count.checked_mul(*size)?;
        }
        Some(count)
    }
}

/// A walk through modules and the modules in them.
struct Modules<'a> {
    values: &'a Values,
    /// Attributes that lead to where the walk is.
    path: String,
    looked_at: usize,
    found: Vec<(String, Found)>,
}

impl Modules<'_> {
    /// Tensors among the attributes of the module at a value.
    fn collect(&mut self, at: usize, depth: usize) -> Result<(), String> {
        self.looked_at += 1;
        if depth > MAX_DEPTH || self.looked_at > MAX_ATTRIBUTES {
            return Err(format!("more than {MAX_DEPTH} modules inside of each other, or {MAX_ATTRIBUTES} attributes in all"));
        }
        if let Some(tensor) = tensor(self.values, at)? {
            self.found.push((self.path.clone(), tensor));
            return Ok(());
        }
        for (name, value) in self.values.attributes(at).unwrap_or_default() {
            let Value::Text(name) = self.values.get(*name) else { continue };
            let before = self.path.len();
            if before > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
            self.collect(*value, depth + 1)?;
            self.path.truncate(before);
        }
        Ok(())
    }
}

/// The tensor at a value: a call of `torch._utils._rebuild_tensor_v2`, or of `_rebuild_parameter` around one.
fn tensor(values: &Values, at: usize) -> Result<Option<Found>, String> {
    let Value::Call { function, arguments } = values.get(at) else { return Ok(None) };
    let Value::Global(function) = values.get(*function) else { return Ok(None) };
    let arguments = values.items(*arguments).unwrap_or_default();
    if function == "torch._utils._rebuild_parameter" {
        return arguments.first().map_or(Ok(None), |inner| tensor(values, *inner));
    }
    if function != "torch._utils._rebuild_tensor_v2" {
        return Ok(None);
    }
    let wrong = || "a tensor's description is not that of PyTorch".to_owned();
    let [storage, offset, shape, strides, ..] = arguments else { return Err(wrong()) };
    let Value::Persistent(storage) = values.get(*storage) else { return Err(wrong()) };
    let [_, kind, key, ..] = values.items(*storage).unwrap_or_default() else { return Err(wrong()) };
    let (Value::Global(kind), Value::Text(key)) = (values.get(*kind), values.get(*key)) else { return Err(wrong()) };
    let sizes = |at: usize| -> Option<Vec<usize>> { values.items(at)?.iter().map(|size| values.size(*size)).collect() };
    let (offset, shape, strides) = (values.size(*offset), sizes(*shape), sizes(*strides));
    let (Some(offset), Some(shape), Some(strides)) = (offset, shape, strides) else { return Err(wrong()) };
    if shape.len() != strides.len() {
        return Err(wrong());
    }
    let kind = kind.strip_prefix("torch.").unwrap_or(kind).to_owned();
    Ok(Some(Found { key: key.clone(), kind, offset, shape, strides }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each module holds the one before it twice, so that forty of them have 2^40 names.
    #[test]
    fn modules_under_too_many_names_are_refused() {
        let instance = |state: Vec<u8>| [b"cm\nC\n)\x81}(".as_slice(), &state, b"ub"].concat();
        let named = |name: u8| [b"X\x01\0\0\0".as_slice(), &[name]].concat();
        let mut pickle = [b"\x80\x02".to_vec(), instance(Vec::new()), b"q\x00".to_vec()].concat();
        for place in 1..=40u8 {
            let before = [b'h', place - 1];
            let state = [named(b'a'), before.to_vec(), named(b'b'), before.to_vec()].concat();
            pickle.extend([b"0".to_vec(), instance(state), vec![b'q', place]].concat());
        }
        pickle.push(b'.');
        let (values, top) = unpickle(&pickle).unwrap();
        let mut modules = Modules { values: &values, path: String::new(), looked_at: 0, found: Vec::new() };
        assert!(modules.collect(top, 0).unwrap_err().contains("attributes in all"));
    }
}
