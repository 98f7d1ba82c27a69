//! The commands of `docs/reproduce.md` as they stand there, on a generated set of the real layout, with small weights under the official
//! file names.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use burn::tensor::Device;
use fusion_dit::DitConfig;
use fusion_risam::RisamConfig;
use nn_ops::weights::{StateDict, export, load_formula};
use run_config::RunConfig;
use test_support::{Session, json};
use text_encoders::bert::Bert;
use text_encoders::clip::ClipText;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::{refs, session};

/// What a session changes of DIT's base, so that a step takes no time.
const SMALL_DIT: &str = r#"
extends = "official.toml"
[data]
image_size = 32
[data.augment]
long_sides = [32, 24]
[model.dit]
text_dim = 16
[model.dit.bert]
hidden = 16
layers = 2
heads = 2
ffn = 32
"#;

/// And of RISAM's.
const SMALL_RISAM: &str = r#"
extends = "official.toml"
[data]
image_size = 32
[model.risam]
taps = [0, 1, 2]
width = 16
heads = 2
up_channels = [8, 4]
[model.risam.clip]
width = 16
layers = 1
heads = 2
ffn = 32
projection_dim = 16
"#;

/// And of the SAM in both, and of how long they are trained and judged.
const SMALL_SAM: &str = r#"
[model.METHOD.sam]
decoder_heads = 2
decoder_mlp_dim = 16
[model.METHOD.sam.image_encoder]
image_size = 32
patch_size = 8
embed_dim = 16
depth = 3
heads = 2
mlp_ratio = 2.0
out_channels = 16
window_size = 3
global_blocks = [1]
[optim]
accumulate = 1
[eval]
limit = 4
figures = 1
"#;

/// The configs of a method with another base, and one epoch each.
fn configs(s: &Session, method: &str, small: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(method);
    let one_epoch = |text: &str| {
        let line = |line: &str| match line.split(" = ").next() {
            Some("epochs") => "epochs = 1\n".to_owned(),
            Some("warmup_epochs") => "warmup_epochs = 0\n".to_owned(),
            Some("decay_epochs") => "decay_epochs = [1]\n".to_owned(),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect::<String>()
    };
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, one_epoch(&std::fs::read_to_string(from).unwrap())).unwrap();
    };
    let to = s.path("configs").join(method);
    copy(&from.join("base.toml"), &to.join("official.toml"));
    std::fs::write(to.join("base.toml"), small.to_owned() + &SMALL_SAM.replace("METHOD", method)).unwrap();
    for entry in std::fs::read_dir(from.join("table1")).unwrap() {
        let path = entry.unwrap().path();
        copy(&path, &to.join("table1").join(path.file_name().unwrap()));
    }
}

/// A text of a pickle.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn sizes(out: &mut Vec<u8>, sizes: &[usize]) {
    out.push(b'(');
    for size in sizes {
        out.push(b'J');
        out.extend((*size as u32).to_le_bytes());
    }
    out.push(b't');
}

/// Writes a state dict as `torch.save` does: a zip with a pickle that names storages, and an entry per storage.
fn write_pth(path: &Path, weights: &StateDict) {
    const DICTIONARY: &[u8] = b"ccollections\nOrderedDict\n)R";
    let mut pickle = [b"\x80\x02", DICTIONARY, b"("].concat();
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(std::fs::File::create(path).unwrap());
    for (number, name) in weights.names().enumerate() {
        let (shape, values) = (weights.shape(name).unwrap(), weights.read(name).unwrap());
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(b"ctorch\nFloatStorage\n");
        text(&mut pickle, &number.to_string());
        text(&mut pickle, "cpu");
        pickle.push(b'J');
        pickle.extend((values.len() as u32).to_le_bytes());
        pickle.extend(b"tQK\x00");
        sizes(&mut pickle, shape);
        let strides: Vec<usize> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        sizes(&mut pickle, &strides);
        pickle.push(0x89);
        pickle.extend(DICTIONARY);
        pickle.extend(b"tR");
        archive.start_file(format!("archive/data/{number}"), stored).unwrap();
        archive.write_all(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    }
    pickle.extend(b"u.");
    for (name, bytes) in [("data.pkl", pickle), ("byteorder", b"little".to_vec()), ("version", b"3\n".to_vec())] {
        archive.start_file(format!("archive/{name}"), stored).unwrap();
        archive.write_all(&bytes).unwrap();
    }
    archive.finish().unwrap();
}

/// The files that the pages' configs look for, at the sizes of the session's.
fn weights(s: &Session) {
    let device = Device::flex();
    let folder = s.path("weights");
    let tokenizers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../text-encoders/tests/data/tokenizers");
    for (inside, of, name) in
        [("bert-base-uncased", "wordpiece.txt", "vocab.txt"), ("clip-vit-base-patch16", "clip_merges.txt", "merges.txt")]
    {
        std::fs::create_dir_all(folder.join(inside)).unwrap();
        std::fs::copy(tokenizers.join(of), folder.join(inside).join(name)).unwrap();
    }
    let read = |method: &str| RunConfig::from_path(&s.path("configs").join(method).join("base.toml")).unwrap();
    let dit: DitConfig = read("dit").method_section().unwrap();
    let risam: RisamConfig = read("risam").method_section().unwrap();
    for (sam, name) in [(&dit.sam, "sam_vit_b_01ec64.pth"), (&risam.sam, "sam_vit_h_4b8939.pth")] {
        let (net, _) = load_formula(sam.init(&device), name, &sam_vit::facebook_names());
        write_pth(&folder.join(name), &export(&net, &sam_vit::facebook_names(), name));
    }
    let rows = std::fs::read_to_string(folder.join("bert-base-uncased/vocab.txt")).unwrap().lines().count();
    let bert = text_encoders::bert::BertConfig { vocab_size: rows, ..dit.bert.clone() };
    let (bert, _) = load_formula(bert.init(&device), "bert", &Bert::names());
    export(&bert, &Bert::names(), "bert").save(folder.join("bert-base-uncased/model.safetensors"), &[]).unwrap();
    let merges = text_encoders::tokenizer::ClipTokenizer::load(folder.join("clip-vit-base-patch16/merges.txt")).unwrap();
    let rows = text_encoders::TextTokenizer::vocab_size(&merges);
    let clip = text_encoders::clip::ClipTextConfig { vocab_size: rows, ..risam.clip.clone() };
    let (clip, _) = load_formula(clip.init(&device), "clip", &ClipText::names());
    export(&clip, &ClipText::names(), "clip").save(folder.join("clip-vit-base-patch16/model.safetensors"), &[]).unwrap();
    // A whole DIT, as its authors publish one.
    let bert = text_encoders::bert::BertConfig { vocab_size: bert_rows(&folder), ..dit.bert.clone() };
    let whole = DitConfig { bert, input_size: 32, text_tokens: 20, ..dit };
    let (net, _) = load_formula(whole.init(&device).unwrap(), "dit", &whole.names());
    write_pth(&folder.join("dit.pth"), &export(&net, &whole.names(), "dit"));
}

fn bert_rows(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("bert-base-uncased/vocab.txt")).unwrap().lines().count()
}

#[test]
fn the_commands_of_the_page_run_as_they_stand() {
    let s = session();
    configs(&s, "dit", SMALL_DIT);
    configs(&s, "risam", SMALL_RISAM);
    weights(&s);
    s.ok(&["data", "synth", "data/refer", "--images", "40", "--size", "64"]);
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reproduce.md")).unwrap();
    let (mut said, mut inside) = (BTreeMap::new(), false);
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                let args: Vec<String> = line.strip_prefix("saymask ").unwrap().split(' ').map(str::to_owned).collect();
                let out = s.run(&refs(&args));
                let (told, error) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
                assert!(out.status.success(), "{line}\n{told}\n{error}");
                said.insert(line.to_owned(), format!("{told}\n{error}"));
            }
            _ => {}
        }
    }
    let of = |part: &str| said.iter().find(|(line, _)| line.contains(part)).map(|(_, said)| said.as_str()).unwrap();
    assert!(said.len() >= 20, "{said:?}");
    assert!(of("saymask weights").contains("sam_vit_b_01ec64.pth"), "{}", of("saymask weights"));
    let trained = of("train --config configs/dit/table1/layer-wise.toml");
    for words in ["a step needs about", "train.batch_size", "data.image_size", "testB"] {
        assert!(trained.contains(words), "`{words}` is missing in:\n{trained}");
    }
    // Ten rows and four sets, each with all of its splits, beside the paper's figures.
    for (run, splits) in [("dit-table1-add-4-frozen", 3), ("risam-table1-gref-umd", 2), ("risam-table1-gref-google", 1)] {
        let reports = json(&s.path("runs").join(run).join("figures.json"))["reports"].as_array().unwrap().len();
        assert_eq!(reports, splits, "{run}");
    }
    let table = of("compare runs/dit-table1-default runs/");
    assert!(table.contains("dit-table1-layer-wise") && table.contains("71.98"), "{table}");
    assert!(of("compare runs/risam-table1-refcoco").contains("76.20"), "{}", of("compare runs/risam-table1-refcoco"));
    assert!(s.path("judged/dit/eval/refcoco-unc-testA.json").exists());
}
