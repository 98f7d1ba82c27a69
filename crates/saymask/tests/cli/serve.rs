//! `serve` as a process: its address, its answers beside `predict`'s, its end; and the page in a browser where there is one.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use burn::tensor::Device;
use efficient_sam::{EfficientSamConfig, efficient_sam_names};
use nn_ops::weights::load_formula;
use serde_json::Value;
use test_support::http::{get, post_form};
use test_support::{Session, json};

use super::{SHORT, refs, session, train};

/// A server as a process, killed with this value.
struct Served {
    child: Child,
    addr: SocketAddr,
}

impl Served {
    fn start(s: &Session, args: &[&str]) -> Self {
        let args = [&["serve", "--addr", "127.0.0.1:0"], args].concat();
        let mut child = s.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("http://").and_then(|l| l.strip_suffix('/')).and_then(|l| l.parse().ok());
        Self { child, addr: addr.unwrap_or_else(|| panic!("no address but {line:?}")) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks a server's answers about an image against `predict`'s about "the red circle" and "left one"; the model's name.
fn answers_as(s: &Session, served: &Served, image: &str, want: &Value) -> String {
    let file = std::fs::read(s.path(image)).unwrap();
    let fields: [(&str, &[u8]); 3] = [("image", &file), ("sentence", b"the red circle"), ("sentence", b"left one")];
    let answer = post_form(served.addr, "/v1/segment", &fields).json();
    assert_eq!(answer["width"], want["width"]);
    let (found, want) = (answer["predictions"].as_array().unwrap(), want["predictions"].as_array().unwrap());
    assert_eq!(found.len(), 2);
    for (found, want) in found.iter().zip(want) {
        for key in ["sentence", "segmentation", "bbox", "score", "area"] {
            assert_eq!(found[key], want[key], "{key}");
        }
    }
    answer["model"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn answers_are_those_of_predict_and_sigterm_ends_it() {
    let s = session();
    s.ok(&refs(&train(&["run.name=served"])));
    let image = "data/images/train2014/COCO_train2014_000000000001.jpg";
    s.ok(&["predict", image, "the red circle", "left one", "--out", "found"]);
    let want = json(&s.path("found/COCO_train2014_000000000001.json"));

    let mut served = Served::start(&s, &[]);
    assert_eq!(answers_as(&s, &served, image, &want), "served");
    assert!(get(served.addr, "/").text().contains("Saymask"));

    // With half weights as `predict` with half weights.
    s.ok(&["predict", image, "the red circle", "left one", "--half-weights", "--out", "halved"]);
    let halved = json(&s.path("halved/COCO_train2014_000000000001.json"));
    let half = Served::start(&s, &["--half-weights"]);
    answers_as(&s, &half, image, &halved);
    assert_ne!(halved["predictions"], json(&s.path("found/COCO_train2014_000000000001.json"))["predictions"]);

    let killed = Command::new("kill").args(["-TERM", &served.child.id().to_string()]).status();
    if killed.is_ok_and(|status| status.success()) {
        assert!(served.child.wait().unwrap().success(), "it ends as it should");
    }
    browser(&s);
}

/// DIT is above.
#[test]
fn risam_and_a_published_evf_sam_are_served() {
    let s = session();
    let image = "data/images/train2014/COCO_train2014_000000000001.jpg";
    let predicted = |more: &[&str], out: &str| {
        s.ok(&[&["predict", image, "the red circle", "left one", "--out", out], more].concat());
        json(&s.path(out).join("COCO_train2014_000000000001.json"))
    };
    s.ok(&[&["train", "--method", "risam", "run.name=risam"], SHORT].concat());
    let run = ["--run", "runs/risam"];
    let served = Served::start(&s, &run);
    assert_eq!(answers_as(&s, &served, image, &predicted(&run, "of-risam")), "risam");
    // Its decoder takes no clicks.
    let file = std::fs::read(s.path(image)).unwrap();
    let refused = post_form(served.addr, "/v1/segment", &[("image", &file), ("sentence", b"left one"), ("points", b"[[3, 3]]")]);
    assert_eq!(refused.status, 422, "{}", refused.text());

    s.ok(&[&["train", "--method", "evf", "run.name=evf"], SHORT].concat());
    s.ok(&["export", "evf-sam/model.safetensors", "--run", "runs/evf"]);
    let weights = ["--weights", "evf-sam"];
    let served = Served::start(&s, &weights);
    assert_eq!(answers_as(&s, &served, image, &predicted(&weights, "of-evf")), "evf-sam");
    let clicked = post_form(served.addr, "/v1/segment", &[("image", &file), ("sentence", b"left one"), ("points", b"[[3, 3]]")]);
    assert_eq!(clicked.status, 200, "{}", clicked.text());
}

/// The page in a browser: `tests/browser/run.sh` says what it needs, and skips with a sentence where that is missing.
fn browser(s: &Session) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/browser/run.sh");
    if std::env::var_os("SAYMASK_BROWSER_TESTS").is_none() {
        return;
    }
    let done =
        Command::new("sh").arg(script).arg(env!("CARGO_BIN_EXE_saymask")).arg("runs/served").current_dir(s.path("")).output();
    let done = done.unwrap();
    let (out, error) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}\n{error}");
}

#[test]
fn what_it_cannot_do_is_said_before_it_starts() {
    let s = session();
    let says = |args: &[&str], word: &str| {
        let message = s.refused(&[&["serve"], args].concat());
        assert!(message.contains(word), "`{word}` is missing in: {message}");
    };
    says(&["--addr", "nowhere"], "--addr nowhere");
    says(&["--addr", "127.0.0.1:0", "--deadline", "0"], "--deadline");
    says(&["--addr", "127.0.0.1:0", "--queue", "0"], "--queue");
    says(&["--addr", "127.0.0.1:0", "--token", "@missing.txt"], "missing.txt");
    says(&["--addr", "127.0.0.1:0", "--run", "nowhere"], "nowhere");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    says(&["--addr", &taken.local_addr().unwrap().to_string()], "--addr");
    super::segment::toy_sam().export(sam_vit::Naming::Facebook).unwrap().save(s.path("toy.safetensors"), &[]).unwrap();
    says(&["--addr", "0.0.0.0:0", "--sam", "toy.safetensors"], "--token");
    says(&["--addr", "127.0.0.1:0", "--sam", "toy.safetensors", "--media", "no-folder"], "no-folder");

    let model = |args: &[&str]| {
        let served = Served::start(&s, args);
        let models = get(served.addr, "/v1/models").json();
        [&models["models"][0]["method"], &models["models"][0]["name"]].map(|value| value.as_str().unwrap_or_default().to_owned())
    };
    let light = EfficientSamConfig { embed_dim: 64, heads: 1, depth: 1, decoder_mlp_dim: 64, ..EfficientSamConfig::small() };
    let light = load_formula(light.init(&Device::flex()).unwrap(), "serve", &efficient_sam_names()).0;
    light.export().save(s.path("light.safetensors"), &[]).unwrap();
    assert_eq!(model(&["--sam", "toy.safetensors"]), ["sam", "toy"]);
    assert_eq!(model(&["--sam", "light.safetensors"]), ["efficient-sam", "light"]);
    assert_eq!(model(&[]), ["dit", "saymask-small"], "what comes with the program");
}
