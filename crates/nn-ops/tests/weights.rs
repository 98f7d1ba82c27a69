//! Weight files: what they hold, and what happens when they are damaged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::Device;
use half::{bf16, f16};
use nn_ops::weights::{Allow, KeyMap, StateDict, WeightsError, export, glob, load, load_formula, parameters};
use safetensors::tensor::{Dtype, TensorView, serialize};
use tempfile::TempDir;

const EXACT: [f32; 4] = [1.5, -2.0, 0.25, 1024.0];
const PTH: &[u8] = include_bytes!("fixtures/tiny.pth");
const NESTED: &[u8] = include_bytes!("fixtures/nested.pth");
const SCRIPTED: &[u8] = include_bytes!("fixtures/scripted.pt");
const TRAINED: &[u8] = include_bytes!("fixtures/trained.pth");

fn put(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn le<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    values.flatten().collect()
}

/// A safetensors file from a header as written and bytes as given.
fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn small_safetensors() -> Vec<u8> {
    let single = le(EXACT.iter().map(|v| v.to_le_bytes()));
    let half = le(EXACT.iter().map(|v| f16::from_f32(*v).to_le_bytes()));
    let brain = le(EXACT.iter().map(|v| bf16::from_f32(*v).to_le_bytes()));
    let double = le(EXACT.iter().map(|v| f64::from(*v).to_le_bytes()));
    let whole = le([7i64, -1].iter().map(|v| v.to_le_bytes()));
    let views = [
        ("single", TensorView::new(Dtype::F32, vec![2, 2], &single)),
        ("half", TensorView::new(Dtype::F16, vec![4], &half)),
        ("brain", TensorView::new(Dtype::BF16, vec![1, 4], &brain)),
        ("double", TensorView::new(Dtype::F64, vec![4, 1], &double)),
        ("whole", TensorView::new(Dtype::I64, vec![2], &whole)),
    ];
    serialize(views.map(|(n, v)| (n, v.unwrap())), None).unwrap()
}

/// Opens and reads everything; says how many tensors could be read. It must never panic.
fn read_all(path: &PathBuf) -> Result<usize, WeightsError> {
    let file = StateDict::open(path)?;
    Ok(file.names().filter(|n| file.read(n).is_ok()).count())
}

#[test]
fn safetensors_of_every_precision_widen() {
    let folder = tempfile::tempdir().unwrap();
    let file = StateDict::open(put(&folder, "a.safetensors", &small_safetensors())).unwrap();
    for name in ["single", "half", "brain", "double"] {
        assert_eq!(file.read(name).unwrap(), EXACT, "{name}");
    }
    assert_eq!(file.shape("brain"), Some(&[1, 4][..]));
    assert!(file.read("whole").unwrap_err().to_string().contains("integers"));
    assert!(file.read("absent").unwrap_err().to_string().contains("not in the file"));
}

/// With and without the key `model`; what is no weight file stays an error of its own kind.
#[test]
fn a_model_is_found_under_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let flat = StateDict::open(put(&folder, "flat.pth", PTH)).unwrap();
    let kinds = [("a.pth", PTH), ("b.pth", NESTED), ("c.pt", NESTED), ("d.pth", TRAINED), ("e.pth.zip", TRAINED), ("f.zip", PTH)];
    for (name, bytes) in kinds {
        let file = StateDict::open_model(put(&folder, name, bytes)).unwrap();
        assert!(file.names().eq(flat.names()), "{name}: {:?}", file.names().collect::<Vec<_>>());
        assert_eq!(file.read("transposed").unwrap(), flat.read("transposed").unwrap());
    }
    let plain = StateDict::open_model(put(&folder, "a.safetensors", &small_safetensors())).unwrap();
    assert_eq!(plain.read("single").unwrap(), EXACT);
    // A folder of a model, and a repository that is not at hand.
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("model.safetensors"), small_safetensors()).unwrap();
    assert_eq!(StateDict::open_model(&model).unwrap().read("single").unwrap(), EXACT);
    assert!(matches!(StateDict::open_model("hf:nobody"), Err(WeightsError::Hub { .. })));
    assert!(matches!(StateDict::open_model(folder.path().join("absent.pth")), Err(WeightsError::Io { .. })));
    assert!(matches!(StateDict::open_model(put(&folder, "bad.pth", b"no zip")), Err(WeightsError::Format { .. })));
}

#[test]
fn pytorch_files_of_every_precision_and_layout() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.pth", "a.pt", "a.bin"] {
        let file = StateDict::open(put(&folder, name, PTH)).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["bfloat", "double", "half", "steps", "tail", "transposed", "whole"]);
        for name in ["half", "bfloat", "double"] {
            assert_eq!(file.read(name).unwrap(), EXACT, "{name}");
        }
        let whole: Vec<f32> = (0..12u8).map(|i| f32::from(i) / 4.0 - 1.0).collect();
        assert_eq!(file.read("whole").unwrap(), whole);
        assert_eq!(file.read("tail").unwrap(), whole[8..]);
        // A transposed view of the same storage is gathered row by row.
        let turned: Vec<f32> = (0..12).map(|i| whole[(i % 3) * 4 + i / 3]).collect();
        assert_eq!((file.shape("transposed"), file.read("transposed").unwrap()), (Some(&[4, 3][..]), turned));
        assert!(file.read("steps").is_err());
    }
}

#[test]
fn shards_are_one_file() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "one.safetensors", &small_safetensors());
    put(&folder, "two.pth", PTH);
    let index = r#"{"metadata":{"total_size":1},"weight_map":{"single":"one.safetensors","whole":"two.pth"}}"#;
    let file = StateDict::open(put(&folder, "model.safetensors.index.json", index.as_bytes())).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["single", "whole"]);
    assert_eq!((file.read("single").unwrap().len(), file.read("whole").unwrap().len()), (4, 12));
    // A shard that exists, but outside the index's own folder.
    let (inner, outside) = (folder.path().join("inner"), folder.path().join("one.safetensors"));
    std::fs::create_dir(&inner).unwrap();
    for shard in ["../one.safetensors".to_owned(), outside.display().to_string()] {
        let path = inner.join("model.safetensors.index.json");
        std::fs::write(&path, serde_json::json!({ "weight_map": { "single": shard } }).to_string()).unwrap();
        assert!(StateDict::open(&path).is_err(), "{shard}");
    }
    for bad in [
        r#"{"weight_map":{"absent":"one.safetensors"}}"#,
        r#"{"weight_map":{"single":"gone.safetensors"}}"#,
        r#"{"weight_map":{"single":""}}"#,
        r#"{"weight_map":{"single":".."}}"#,
        r#"{"weight_map":3}"#,
        "not json",
        "",
    ] {
        let path = put(&folder, "bad.safetensors.index.json", bad.as_bytes());
        assert!(StateDict::open(&path).is_err(), "{bad}");
    }
}

/// An index that names itself, or two that name each other, must not be followed for ever.
#[test]
fn an_index_of_indices_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let itself = r#"{"weight_map":{"a":"a.index.json"}}"#;
    assert!(StateDict::open(put(&folder, "a.index.json", itself.as_bytes())).is_err());
    put(&folder, "b.index.json", br#"{"weight_map":{"a":"c.index.json"}}"#);
    assert!(StateDict::open(put(&folder, "c.index.json", br#"{"weight_map":{"a":"b.index.json"}}"#)).is_err());
}

#[test]
fn headers_that_lie_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let two = |b: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"b":{{"dtype":"F32","shape":[2],"data_offsets":{b}}}}}"#
        )
    };
    assert_eq!(read_all(&put(&folder, "good.safetensors", &raw(&two("[8,16]"), 16))).unwrap(), 2);
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("seven bytes", vec![1; 7]),
        ("header of 2^64 - 1 bytes", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        ("header of 2^63 bytes", [&(1u64 << 63).to_le_bytes()[..], b"{}"].concat()),
        ("header longer than the file", [&100u64.to_le_bytes()[..], b"{}"].concat()),
        ("no json", raw("{{{{", 0)),
        ("json of another kind", raw("[1, 2]", 0)),
        ("unknown dtype", raw(&one("F31", "[2]", "[0,8]"), 8)),
        ("beyond the end", raw(&one("F32", "[4]", "[0,16]"), 8)),
        ("far beyond the end", raw(&one("F32", "[4611686018427387903]", "[0,18446744073709551612]"), 8)),
        ("backwards", raw(&one("F32", "[2]", "[8,0]"), 8)),
        ("negative", raw(&one("F32", "[2]", "[-8,0]"), 8)),
        ("shape larger than its bytes", raw(&one("F32", "[3]", "[0,8]"), 8)),
        ("shape smaller than its bytes", raw(&one("F32", "[1]", "[0,8]"), 8)),
        ("shape that overflows to its bytes", raw(&one("F32", "[4611686018427387905, 4]", "[0,16]"), 16)),
        ("shape that overflows to nothing", raw(&one("F64", "[4294967296, 4294967296]", "[0,0]"), 0)),
        ("overlapping", raw(&two("[4,12]"), 16)),
        ("the same bytes twice", raw(&two("[0,8]"), 8)),
        ("a gap", raw(&two("[12,20]"), 20)),
    ];
    for (what, bytes) in bad {
        assert!(read_all(&put(&folder, "bad.safetensors", &bytes)).is_err(), "{what}");
    }
}

/// A file that was cut is an error, and no single byte that changes makes a reader fall over.
#[test]
fn damaged_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    for (name, whole, step) in [("cut.safetensors", small_safetensors(), 1), ("cut.pth", PTH.to_vec(), 5)] {
        for length in (0..whole.len()).step_by(step) {
            assert!(read_all(&put(&folder, name, &whole[..length])).is_err(), "{name} of {length} bytes");
        }
        for at in (0..whole.len()).step_by(step.div_ceil(3)) {
            let mut bytes = whole.clone();
            bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
            let _ = read_all(&put(&folder, name, &bytes));
        }
    }
}

/// Replaces bytes in the stored pickle of the fixture; the zip's checksums are then wrong, as in a file cut together by
/// hand, so the archive is written anew.
fn with_pickle(edit: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (name, pickle) = entries(PTH).into_iter().find(|(n, _)| n.ends_with("data.pkl")).unwrap();
    let mut all = entries(PTH);
    all[0] = (name, edit(&pickle));
    zip(&all)
}

/// Entries of a stored (not compressed) archive, by its local headers.
fn entries(zip: &[u8]) -> Vec<(String, Vec<u8>)> {
    let number = |at: usize, n: usize| zip[at..at + n].iter().rev().fold(0usize, |v, b| v << 8 | usize::from(*b));
    let (mut at, mut out) = (0, Vec::new());
    while zip[at..].starts_with(b"PK\x03\x04") {
        let (size, name, extra) = (number(at + 18, 4), number(at + 26, 2), number(at + 28, 2));
        let start = at + 30 + name + extra;
        out.push((String::from_utf8(zip[at + 30..at + 30 + name].to_vec()).unwrap(), zip[start..start + size].to_vec()));
        at = start + size;
    }
    out
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |crc, b| (0..8).fold(crc ^ u32::from(*b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 }))
}

fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let mut common = vec![0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(crc(data).to_le_bytes());
        common.extend([(data.len() as u32).to_le_bytes(); 2].concat());
        common.extend((name.len() as u32).to_le_bytes());
        let start = out.len() as u32;
        out.extend([&b"PK\x03\x04\x14\x00"[..], &common, name.as_bytes(), data].concat());
        directory.extend([&b"PK\x01\x02\x14\x00\x14\x00"[..], &common, &[0; 10], &start.to_le_bytes(), name.as_bytes()].concat());
    }
    let (start, number) = (out.len() as u32, entries.len() as u16);
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([number.to_le_bytes(), number.to_le_bytes()].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|w| w == from).expect("the fixture holds these bytes");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn pickles_that_lie_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read_all(&put(&folder, "same.pth", &with_pickle(<[u8]>::to_vec))).unwrap(), 6);
    // In protocol 2 the shape (3, 4) is `K\x03 K\x04 \x86`; `J` is a signed 4-byte number, `\x8a` a longer one.
    let shape = b"K\x03K\x04\x86";
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("no pickle", zip(&entries(PTH)[1..])),
        ("garbage", with_pickle(|_| b"\x80\x02garbage".to_vec())),
        ("nothing", with_pickle(|_| Vec::new())),
        ("another program", with_pickle(|p| replace(p, b"torch._utils\n_rebuild_tensor_v2", b"os\nsystem"))),
        ("shape beyond the storage", with_pickle(|p| replace(p, shape, b"K\x03K\x05\x86"))),
        ("shape below 0", with_pickle(|p| replace(p, shape, b"J\xff\xff\xff\xffK\x04\x86"))),
        ("2^62 rows", with_pickle(|p| replace(p, shape, b"\x8a\x08\0\0\0\0\0\0\0\x40K\x04\x86"))),
        ("2^31 x 2^31", with_pickle(|p| replace(p, shape, b"\x8a\x05\0\0\0\x80\0\x8a\x05\0\0\0\x80\0\x86"))),
        ("memory that is not there", with_pickle(|p| replace(p, shape, b"jABCD\x86"))),
        ("a string of 4 GB", with_pickle(|p| [&p[..2], b"X\xff\xff\xff\xffabc"].concat())),
        ("a thousand levels", with_pickle(|_| [&b"\x80\x02"[..], &b"]".repeat(100_000), &b"a".repeat(99_999), b"."].concat())),
    ];
    for (what, bytes) in bad {
        assert!(read_all(&put(&folder, "bad.pth", &bytes)).is_err(), "{what}");
    }
    // A storage shorter than the pickle says is found when it is read.
    let mut short = entries(PTH);
    let at = short.iter().position(|(n, _)| n.ends_with("data/0")).unwrap();
    short[at].1.truncate(20);
    let path = put(&folder, "short.pth", &zip(&short));
    assert!(StateDict::open(&path).and_then(|c| c.read("whole")).is_err());
}

#[test]
fn files_of_another_kind_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let text = b"<!DOCTYPE html><html>Not found</html>";
    for name in ["a.safetensors", "a.pth", "a.pt", "a.bin", "a.safetensors.index.json", "a.txt", "plain"] {
        assert!(StateDict::open(put(&folder, name, text)).is_err(), "{name}");
        assert!(StateDict::open(folder.path().join("absent").join(name)).is_err(), "{name}");
    }
    std::fs::create_dir(folder.path().join("folder.safetensors")).unwrap();
    assert!(StateDict::open(folder.path().join("folder.safetensors")).is_err());
}

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    linear: Linear,
    norm: LayerNorm,
    table: Embedding,
}

fn net(device: &Device) -> Net {
    Net {
        conv: Conv2dConfig::new([2, 3], [2, 2]).init(device),
        linear: LinearConfig::new(4, 5).init(device),
        norm: LayerNormConfig::new(4).init(device),
        table: EmbeddingConfig::new(6, 4).init(device),
    }
}

/// Linear weights are [out, in] in files; written, read and written again, every bit is the same.
#[test]
fn modules_round_trip() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let names = KeyMap::new(&[("conv.", "0."), ("norm.", "1.")]).with_prefix("net.");
    let (model, count) = load_formula(net(&device), "seed", &names);
    assert_eq!(count, 24 + 3 + 20 + 5 + 8 + 24);
    let written = export(&model, &names, "net");
    assert_eq!(written.shape("net.linear.weight"), Some(&[5, 4][..]));
    assert_eq!(written.read("net.linear.weight").unwrap(), nn_ops::formula::weight("seed", "net.linear.weight", &[5, 4]));
    assert!(written.names().eq([
        "net.0.bias",
        "net.0.weight",
        "net.1.bias",
        "net.1.weight",
        "net.linear.bias",
        "net.linear.weight",
        "net.table.weight"
    ]));
    let path = folder.path().join("net.safetensors");
    written.save(&path, &[("made by", "a test")]).unwrap();
    let opened = StateDict::open(&path).unwrap();
    assert_eq!(opened.metadata().get("made by").map(String::as_str), Some("a test"));
    let (back, report) = load(net(&device), &opened, &names, &Allow::default()).unwrap();
    assert_eq!((report.matched.len(), report.missing.len(), report.unused.len()), (7, 0, 0));
    let again = export(&back, &names, "net");
    for p in parameters(&model, &names) {
        let bits = |c: &StateDict| c.read(&p.name).unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(&written), "{}", p.name);
    }
    let leftovers = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(leftovers, 1, "the partial file is gone");
}

#[test]
fn values_that_are_not_finite_are_refused_by_the_name_of_their_tensor() {
    let device = Device::flex();
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        let mut state_dict = export(&net(&device), &KeyMap::plain(), "diverged.pth");
        let name = state_dict.names().find(|n| n.ends_with("weight")).unwrap().to_owned();
        let shape = state_dict.shape(&name).unwrap().to_vec();
        let mut values = state_dict.read(&name).unwrap();
        values[1] = bad;
        state_dict.insert(name.clone(), &shape, values);
        assert!(state_dict.read(&name).is_ok(), "to look at them is allowed");
        let error = load(net(&device), &state_dict, &KeyMap::plain(), &Allow::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("diverged.pth: tensor `{name}`: 1 of")), "{error}");
    }
}

#[test]
fn equal_weights_give_equal_files() {
    let folder = tempfile::tempdir().unwrap();
    let state_dict = export(&net(&Device::flex()), &KeyMap::plain(), "net");
    let metadata = [("format", "pt"), ("method", "\"dit\" \\ é"), ("source", "runs/a"), ("zebra", "1"), ("apple", "2")];
    let files: Vec<Vec<u8>> = (0..8)
        .map(|i| {
            let path = folder.path().join(format!("{i}.safetensors"));
            state_dict.save(&path, &metadata).unwrap();
            assert_eq!(StateDict::open(&path).unwrap().metadata()["method"], metadata[1].1);
            std::fs::read(path).unwrap()
        })
        .collect();
    assert!(files.iter().all(|file| *file == files[0]));
}

#[test]
fn every_tensor_is_accounted_for() {
    let device = Device::flex();
    let names = KeyMap::plain();
    let (model, _) = load_formula(net(&device), "seed", &names);
    let mut file = export(&model, &names, "file");
    file.insert("extra.buffer", &[1], vec![0.0]);
    let short = file.clone().rename(|n| (n != "norm.bias").then(|| n.to_owned())).unwrap();
    let why = |file: &StateDict, allow: &Allow<'_>| load(net(&device), file, &names, allow).map(|_| ()).unwrap_err().to_string();
    let text = why(&short, &Allow::default());
    assert!(text.contains("missing in the file: `norm.bias`") && text.contains("not in the model: `extra.buffer`"), "{text}");
    assert!(!why(&short, &Allow { missing: &["norm.*"], unused: &[] }).contains("norm.bias"));
    let (_, report) = load(net(&device), &short, &names, &Allow { missing: &["*.bias"], unused: &["extra.*"] }).unwrap();
    assert_eq!((report.missing, report.unused), (vec!["norm.bias".to_owned()], vec!["extra.buffer".to_owned()]));
    let mut turned = export(&model, &names, "file");
    turned.insert("linear.weight", &[4, 5], vec![0.0; 20]);
    let text = why(&turned, &Allow::default());
    assert!(text.contains("[4, 5] in the file") && text.contains("[5, 4] in the model"), "{text}");
    // Values that do not fill their shape are an error as well.
    let mut hollow = export(&model, &names, "file");
    hollow.insert("linear.bias", &[5], vec![0.0; 3]);
    assert!(why(&hollow, &Allow::default()).contains("shorter than its shape"));
}

#[test]
fn tensors_are_renamed_cut_and_merged() {
    let mut file = StateDict::empty("memory");
    file.insert("model.in_proj", &[6, 2], (0..12).map(|v| v as f32).collect());
    file.insert("model.a", &[1], vec![1.0]);
    let mut bare = file.clone().under("model.").unwrap();
    bare.split_rows("in_proj", &["q", "k", "v"].map(str::to_owned)).unwrap();
    assert_eq!((bare.shape("k"), bare.read("k").unwrap()), (Some(&[2, 2][..]), vec![4.0, 5.0, 6.0, 7.0]));
    // Cutting a cut tensor stays inside it.
    bare.split_rows("v", &["v0", "v1"].map(str::to_owned)).unwrap();
    assert_eq!(bare.read("v1").unwrap(), [10.0, 11.0]);
    assert!(bare.split_rows("q", &["x", "y", "z"].map(str::to_owned)).is_err());
    assert!(bare.split_rows("gone", &["x".to_owned()]).is_err());
    assert!(file.clone().rename(|_| Some("one".to_owned())).is_err());
    assert!(file.clone().strip_prefix("model.").unwrap().names().eq(["a", "in_proj"]));
    let mut other = StateDict::empty("other");
    other.insert("model.a", &[1], vec![2.0]);
    file.merge(other);
    assert_eq!((file.len(), file.read("model.a").unwrap()), (2, vec![2.0]));
}

#[test]
fn globs_match_whole_names() {
    for (pattern, name, want) in [
        ("a.b", "a.b", true),
        ("a.b", "a.bc", false),
        ("a.*", "a.b.c", true),
        ("*.bias", "x.y.bias", true),
        ("*.bias", "x.bias.y", false),
        ("a*c*e", "abcde", true),
        ("a*c*e", "abde", false),
        ("*", "", true),
        ("ä*ö", "äüö", true),
    ] {
        assert_eq!(glob(pattern, name), want, "{pattern} on {name}");
    }
}

/// What lies in memory is read as what lies on the disk, and its faults are named.
#[test]
fn bytes_are_read_as_files_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut dict = StateDict::empty("made");
    dict.insert("b", &[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    dict.insert("a", &[3], vec![5.0, 6.0, 7.0]);
    dict.save(&path, &[("format", "pt")]).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let read = StateDict::from_bytes("memory", bytes.clone()).unwrap();
    assert_eq!((read.read("a").unwrap(), read.read("b").unwrap()), (vec![5.0, 6.0, 7.0], vec![1.0, 2.0, 3.0, 4.0]));
    assert_eq!(read.metadata()["format"], "pt");
    for end in [0, 7, 8, 40, bytes.len() - 1] {
        let error = StateDict::from_bytes("memory", bytes[..end].to_vec()).unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }
}

/// Made by `torch.jit.save`: names, shapes and numbers are those of the module's state dict, and no code of it is run.
#[test]
fn tensors_of_a_torchscript_archive() {
    let folder = TempDir::new().unwrap();
    let path = put(&folder, "scripted.pt", SCRIPTED);
    for file in [StateDict::open(&path).unwrap(), StateDict::open_model(&path).unwrap()] {
        assert_eq!(file.len(), 32);
        let block = "transformer.resblocks.1";
        assert_eq!(file.shape(&format!("{block}.attn.in_proj_weight")), Some(&[12, 4][..]));
        let fused = file.read(&format!("{block}.attn.in_proj_weight")).unwrap();
        assert!(fused.iter().enumerate().all(|(i, v)| *v == i as f32 / 64.0), "{fused:?}");
        assert_eq!(file.read(&format!("{block}.ln_1.bias")).unwrap(), [-1.0, -0.9375, -0.875, -0.8125]);
        assert_eq!((file.shape("logit_scale"), file.read("logit_scale").unwrap()), (Some(&[][..]), vec![2.5]));
        assert_eq!(file.read("attn_mask").unwrap(), [0.1, -3.0]);
        let error = file.read("vocab_size").unwrap_err().to_string();
        assert!(error.contains("holds integers"), "{error}");
    }
    // Whatever byte is lost or changed: an error or other numbers, never a panic.
    for at in (0..SCRIPTED.len()).step_by(61) {
        let mut bytes = SCRIPTED.to_vec();
        bytes[at] ^= 0x55;
        let _ = read_all(&put(&folder, "changed.pt", &bytes));
        let _ = read_all(&put(&folder, "cut.pt", &SCRIPTED[..at]));
    }
}
