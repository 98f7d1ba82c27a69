//! State dicts: named tensors of safetensors and PyTorch files, read only when asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorView};

use super::error::WeightsError;
use super::half::beyond_half;
use super::torchscript;

/// A safetensors header larger than this is hostile: ViT-H has 594 tensors and needs 60 kB.
const MAX_HEADER: u64 = 64 << 20;

/// How one number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    Bf16,
    Integer,
}

impl Element {
    pub(super) fn size(self) -> usize {
        match self {
            Element::F64 => 8,
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
            Element::Integer => 0,
        }
    }
}

/// A file, or bytes in memory.
pub(super) trait ReadSeek: Read + Seek + Send {}

impl<R: Read + Seek + Send> ReadSeek for R {}

pub(super) type SharedReader = Arc<Mutex<Box<dyn ReadSeek>>>;

#[derive(Clone)]
pub(super) enum Source {
    Memory(Arc<Vec<f32>>),
    /// Bytes of a file that lie behind each other: safetensors, TorchScript.
    Plain {
        file: SharedReader,
        offset: u64,
        bytes: usize,
    },
    Pytorch(Box<pytorch_reader::Tensor>),
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) shape: Vec<usize>,
    pub(super) element: Element,
    pub(super) source: Source,
    /// Rows of the leading axis that this entry stands for, when it was cut from a fused tensor.
    pub(super) rows: Option<Range<usize>>,
}

/// Named tensors of a weight file, in the file's own names and PyTorch's layouts.
///
/// Opening reads the directory only; numbers are read tensor by tensor and widened to `f32`.
///
/// # Limits
/// Half, single and double precision. Integer tensors (position ids, counters) are listed but cannot be loaded.
#[derive(Clone, Default)]
pub struct StateDict {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl std::fmt::Debug for StateDict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StateDict({}, {} tensors)", self.path.display(), self.entries.len())
    }
}

impl StateDict {
    /// Opens `.safetensors`, a sharded `*.index.json`, or PyTorch's `.pth`, `.pt`, `.bin` (also with `.zip` behind), TorchScript
    /// archives among them, whose code is not run.
    ///
    /// # Errors
    /// A file that is absent, cut, damaged or of another kind.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        Self::open_at(path, None)
    }

    /// As [`StateDict::open`], for PyTorch files whose tensors lie under a top-level key such as `model`.
    ///
    /// # Errors
    /// As [`StateDict::open`].
    pub fn open_at(path: impl AsRef<Path>, top_level_key: Option<&str>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
        if name.ends_with(".safetensors") {
            open_safetensors(path)
        } else if name.ends_with(".index.json") {
            open_sharded(path)
        } else if [".pth", ".pt", ".bin", ".zip"].iter().any(|ending| name.ends_with(ending)) {
            // Browsers, seeing what PyTorch's files are inside, save `x.pth` as `x.pth.zip` or `x.zip`.
            open_pytorch(path, top_level_key)
        } else {
            Err(WeightsError::Format {
                path: path.to_owned(),
                what: "unknown kind of weight file; expected .safetensors, .safetensors.index.json, .pth, .pt, .bin or .zip"
                    .into(),
            })
        }
    }

    /// Reads a safetensors file that is in memory. `label` stands for the path in messages.
    ///
    /// # Errors
    /// Bytes that are cut, damaged or of another kind.
    pub fn from_bytes(label: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, WeightsError> {
        let length = bytes.len() as u64;
        read_safetensors(&label.into(), Box::new(std::io::Cursor::new(bytes)), length)
    }

    pub(super) fn from_entries(path: &Path, entries: BTreeMap<String, Entry>) -> Self {
        Self { path: path.to_owned(), entries, ..Self::default() }
    }

    /// An empty state dict, to be filled by [`StateDict::insert`]. `label` stands for the path in messages.
    pub fn empty(label: impl Into<PathBuf>) -> Self {
        Self { path: label.into(), ..Self::default() }
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a safetensors file says of itself.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Keys, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Shape of a tensor as the file states it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f32>) {
        let entry = Entry { shape: shape.to_vec(), element: Element::F32, source: Source::Memory(Arc::new(values)), rows: None };
        self.entries.insert(name.into(), entry);
    }

    /// Renames every tensor; `None` drops it. Two tensors that end up with one name are an error.
    ///
    /// # Errors
    /// A collision of names.
    pub fn rename(self, rule: impl Fn(&str) -> Option<String>) -> Result<Self, WeightsError> {
        let mut entries = BTreeMap::new();
        for (name, entry) in self.entries {
            let Some(new) = rule(&name) else { continue };
            if entries.insert(new.clone(), entry).is_some() {
                return Err(WeightsError::Tensor { path: self.path, name, what: format!("a second tensor is called `{new}`") });
            }
        }
        Ok(Self { path: self.path, entries, metadata: self.metadata })
    }

    /// Removes `prefix` where a name starts with it (`module.` of distributed training, `bert.` ...).
    ///
    /// # Errors
    /// A collision of names.
    pub fn strip_prefix(self, prefix: &str) -> Result<Self, WeightsError> {
        self.rename(|name| Some(name.strip_prefix(prefix).unwrap_or(name).to_owned()))
    }

    /// Keeps what lies under `prefix`, and removes the prefix.
    ///
    /// # Errors
    /// None in practice: names stay distinct.
    pub fn under(self, prefix: &str) -> Result<Self, WeightsError> {
        self.rename(|name| name.strip_prefix(prefix).map(str::to_owned))
    }

    /// Cuts a fused tensor (`in_proj_weight`) along its leading axis into equal parts with the given names.
    ///
    /// # Errors
    /// The tensor is absent, or its rows do not divide evenly.
    pub fn split_rows(&mut self, name: &str, parts: &[String]) -> Result<(), WeightsError> {
        let fail = |path: &Path, what: String| WeightsError::Tensor { path: path.to_owned(), name: name.to_owned(), what };
        let Some(entry) = self.entries.remove(name) else {
            return Err(fail(&self.path, "is not in the file".into()));
        };
        let rows = entry.shape.first().copied().unwrap_or(0);
        if parts.is_empty() || rows == 0 || rows % parts.len() != 0 {
            return Err(fail(&self.path, format!("shape {:?} cannot be cut into {} equal parts", entry.shape, parts.len())));
        }
        let each = rows / parts.len();
        let first = entry.rows.clone().map_or(0, |r| r.start);
        for (i, part) in parts.iter().enumerate() {
            let mut cut = entry.clone();
            cut.shape[0] = each;
            cut.rows = Some(first + i * each..first + (i + 1) * each);
            self.entries.insert(part.clone(), cut);
        }
        Ok(())
    }

    /// Takes every tensor of `other`, replacing those of the same name.
    pub fn merge(&mut self, other: StateDict) {
        self.entries.extend(other.entries);
    }

    /// Reads one tensor as `f32`, row-major.
    ///
    /// # Errors
    /// The tensor is absent, holds integers, or its bytes cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let fail = |what: String| WeightsError::Tensor { path: self.path.clone(), name: name.to_owned(), what };
        let entry = self.entries.get(name).ok_or_else(|| fail("is not in the file".into()))?;
        let count: usize = entry.shape.iter().product();
        // A cut entry covers rows of a larger tensor: `start` is where they begin, in elements.
        let start = match &entry.rows {
            Some(rows) if entry.shape[0] > 0 => rows.start * (count / entry.shape[0]),
            _ => 0,
        };
        let size = entry.element.size();
        let bytes = match &entry.source {
            Source::Memory(values) => {
                return values
                    .get(start..start + count)
                    .map(<[f32]>::to_vec)
                    .ok_or_else(|| fail("is shorter than its shape".into()));
            }
            _ if size == 0 => return Err(fail("holds integers, not weights".into())),
            Source::Plain { file, offset, bytes } => {
                if (start + count) * size > *bytes {
                    return Err(fail("is shorter than its shape".into()));
                }
                let mut buffer = vec![0u8; count * size];
                let mut file = file.lock().map_err(|_| fail("another reader of the file failed".into()))?;
                file.seek(SeekFrom::Start(offset + (start * size) as u64))
                    .and_then(|_| file.read_exact(&mut buffer))
                    .map_err(|e| fail(e.to_string()))?;
                buffer
            }
            Source::Pytorch(tensor) => {
                let all = tensor.read().map_err(|e| fail(e.to_string()))?;
                all.get(start * size..(start + count) * size)
                    .map(<[u8]>::to_vec)
                    .ok_or_else(|| fail("is shorter than its shape".into()))?
            }
        };
        Ok(widen(&bytes, entry.element))
    }

    /// As [`Self::read`], for weights that a model will compute with.
    ///
    /// # Errors
    /// As there, or values that are NaN or infinite: masks made with them would be empty without a word.
    pub fn read_finite(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let values = self.read(name)?;
        let bad = values.iter().filter(|v| !v.is_finite()).count();
        if bad == 0 {
            return Ok(values);
        }
        let what = format!(
            "{bad} of {} values are NaN or infinite; the file was saved by a run that had diverged, or is damaged",
            values.len()
        );
        Err(WeightsError::Tensor { path: self.path.clone(), name: name.to_owned(), what })
    }

    /// Writes safetensors in `f32`, beside the target first and then renamed over it.
    ///
    /// # Errors
    /// A tensor that cannot be read, or a file that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>, metadata: &[(&str, &str)]) -> Result<(), WeightsError> {
        self.write(path.as_ref(), metadata, Dtype::F32, |v, raw| raw.extend(v.to_le_bytes()))
    }

    /// As [`StateDict::save`], in half precision: half the bytes, 11 bits per number, nothing above 65504.
    ///
    /// # Errors
    /// As [`StateDict::save`], and a tensor with a number above that.
    pub fn save_half(&self, path: impl AsRef<Path>, metadata: &[(&str, &str)]) -> Result<(), WeightsError> {
        for name in self.names() {
            let largest = self.read(name)?.into_iter().fold(0.0, |most: f32, v| most.max(v.abs()));
            if let Some(what) = beyond_half(largest) {
                return Err(WeightsError::Tensor { path: self.path.clone(), name: name.to_owned(), what });
            }
        }
        self.write(path.as_ref(), metadata, Dtype::F16, |v, raw| raw.extend(f16::from_f32(v).to_le_bytes()))
    }

    fn write(
        &self,
        path: &Path,
        metadata: &[(&str, &str)],
        element: Dtype,
        put: impl Fn(f32, &mut Vec<u8>),
    ) -> Result<(), WeightsError> {
        let io = |source| WeightsError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::with_capacity(self.entries.len());
        for (name, entry) in &self.entries {
            let mut raw = Vec::new();
            self.read(name)?.into_iter().for_each(|v| put(v, &mut raw));
            bytes.push((name.clone(), entry.shape.clone(), raw));
        }
        let bad = |e: safetensors::SafeTensorError| WeightsError::Format { path: path.to_owned(), what: e.to_string() };
        let mut views = Vec::with_capacity(bytes.len());
        for (name, shape, raw) in &bytes {
            views.push((name.clone(), TensorView::new(element, shape.clone(), raw).map_err(bad)?));
        }
        let info = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let beside = path.with_extension("safetensors.partial");
        safetensors::serialize_to_file(views, Some(info), &beside).map_err(bad)?;
        sort_metadata(&beside).map_err(io)?;
        File::open(&beside).and_then(|file| file.sync_all()).map_err(io)?;
        std::fs::rename(&beside, path).map_err(io)
    }
}

/// Puts the metadata of a safetensors file in order, which the library writes in another one each time: equal weights are to give
/// equal files. The header keeps its length.
fn sort_metadata(path: &Path) -> std::io::Result<()> {
    const FRONT: &[u8] = b"{\"__metadata__\":";
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut header = vec![0; usize::try_from(u64::from_le_bytes(length)).unwrap_or_default()];
    file.read_exact(&mut header)?;
    let Some(rest) = header.strip_prefix(FRONT) else { return Ok(()) };
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<BTreeMap<String, String>>();
    if let Some(Ok(metadata)) = values.next() {
        let sorted = serde_json::to_vec(&metadata)?;
        if sorted.len() == values.byte_offset() {
            file.seek(SeekFrom::Start((length.len() + FRONT.len()) as u64))?;
            file.write_all(&sorted)?;
        }
    }
    Ok(())
}

/// Little-endian bytes to `f32`.
fn widen(bytes: &[u8], element: Element) -> Vec<f32> {
    match element {
        Element::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Element::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Element::F16 => bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Element::Bf16 => bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        Element::Integer => Vec::new(),
    }
}

fn open_safetensors(path: &Path) -> Result<StateDict, WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    read_safetensors(path, Box::new(file), length)
}

fn read_safetensors(path: &Path, mut file: Box<dyn ReadSeek>, length: u64) -> Result<StateDict, WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let bad = |what: String| WeightsError::Format { path: path.to_owned(), what };
    let mut prefix = [0u8; 8];
    file.read_exact(&mut prefix).map_err(|_| bad(format!("{length} bytes is too short for a safetensors file")))?;
    let header = u64::from_le_bytes(prefix);
    if header > MAX_HEADER || header + 8 > length {
        return Err(bad(format!("not a safetensors file: its header claims {header} bytes, the file has {length}")));
    }
    let mut buffer = vec![0u8; header as usize];
    file.read_exact(&mut buffer).map_err(io)?;
    // Only the header is in memory, so the directory is parsed by itself and its offsets are checked here.
    let metadata: Metadata = serde_json::from_slice(&buffer).map_err(|e| bad(format!("damaged safetensors header: {e}")))?;
    let data_start = 8 + header;
    let shared = Arc::new(Mutex::new(file));
    let mut entries = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let (from, to) = info.data_offsets;
        let fail = |what: String| WeightsError::Tensor { path: path.to_owned(), name: name.clone(), what };
        if from > to || (to as u64).checked_add(data_start).is_none_or(|end| end > length) {
            return Err(fail("lies beyond the end of the file; it is cut".into()));
        }
        let count = info.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if count.and_then(|n| n.checked_mul(info.dtype.bitsize())).is_none_or(|bits| bits / 8 != to - from) {
            return Err(fail(format!("{} bytes do not hold shape {:?} of {:?}", to - from, info.shape, info.dtype)));
        }
        let element = match info.dtype {
            Dtype::F64 => Element::F64,
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            _ => Element::Integer,
        };
        let source = Source::Plain { file: shared.clone(), offset: data_start + from as u64, bytes: to - from };
        entries.insert(name, Entry { shape: info.shape.clone(), element, source, rows: None });
    }
    let metadata = metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(StateDict { path: path.to_owned(), entries, metadata })
}

fn open_sharded(path: &Path) -> Result<StateDict, WeightsError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
    let index: Index = serde_json::from_str(&text)
        .map_err(|e| WeightsError::Format { path: path.to_owned(), what: format!("not a sharded index: {e}") })?;
    let mut shards = BTreeMap::new();
    let mut whole = StateDict::empty(path);
    for (name, shard) in index.weight_map {
        // A shard is a weight file beside the index: not a path elsewhere, and not an index, which could name itself.
        if Path::new(&shard).components().count() != 1 || shard.to_lowercase().ends_with(".json") {
            let what = format!("shard `{shard}` is not the name of a weight file beside the index");
            return Err(WeightsError::Format { path: path.to_owned(), what });
        }
        if !shards.contains_key(&shard) {
            shards.insert(shard.clone(), StateDict::open(path.with_file_name(&shard))?);
        }
        let Some(entry) = shards.get(&shard).and_then(|c| c.entries.get(&name)) else {
            return Err(WeightsError::Tensor { path: path.to_owned(), name, what: format!("is not in its shard `{shard}`") });
        };
        whole.entries.insert(name, entry.clone());
    }
    Ok(whole)
}

fn open_pytorch(path: &Path, top_level_key: Option<&str>) -> Result<StateDict, WeightsError> {
    use pytorch_reader::{DType, PytorchReader};
    if let Err(source) = File::open(path) {
        return Err(WeightsError::Io { path: path.to_owned(), source });
    }
    if let Some(archive) = torchscript::open(path)? {
        return match top_level_key {
            None => Ok(archive),
            Some(key) => archive.under(&format!("{key}.")),
        };
    }
    let reader = match top_level_key {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    }
    .map_err(|e| WeightsError::Format { path: path.to_owned(), what: format!("not a PyTorch state dictionary: {e}") })?;
    let entries = reader
        .into_tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let element = match tensor.dtype() {
                DType::F64 => Element::F64,
                DType::F32 => Element::F32,
                DType::F16 => Element::F16,
                DType::BF16 => Element::Bf16,
                _ => Element::Integer,
            };
            let entry = Entry { shape: tensor.shape().to_vec(), element, source: Source::Pytorch(Box::new(tensor)), rows: None };
            (name, entry)
        })
        .collect();
    Ok(StateDict { path: path.to_owned(), entries, ..StateDict::default() })
}
