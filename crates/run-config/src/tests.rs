//! Reads like a user's mistakes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use super::*;

fn refused(text: &str) -> String {
    RunConfig::resolve(text, Some(Path::new("configs/x.toml")), &[] as &[&str]).expect_err("should be refused").to_string()
}

fn refused_over(text: &str, overrides: &[&str]) -> String {
    RunConfig::resolve(text, Some(Path::new("configs/x.toml")), overrides).expect_err("should be refused").to_string()
}

#[test]
fn nothing_written_is_the_dit_recipe() {
    let config = RunConfig::from_toml_str("").unwrap();
    assert_eq!(config.optim.betas, [0.9, 0.98]);
    assert_eq!(config.optim.grad_clip, 0.15);
    assert_eq!((config.train.epochs, config.train.steps), (Some(40), None));
    assert_eq!(config.schedule.warmup_epochs, Some(3));
    assert_eq!(config.text.vocabulary_file(), None);
}

#[test]
fn wrong_keys_name_the_nearest_right_one() {
    assert_eq!(
        refused("[train]\nbach_size = 4"),
        "unknown key `train.bach_size` in configs/x.toml; did you mean `train.batch_size`?"
    );
    assert_eq!(refused("[trian]\nbatch_size = 4"), "unknown key `trian` in configs/x.toml; did you mean `train`?");
    assert_eq!(refused("[train]\nlr = 1e-4"), "unknown key `train.lr` in configs/x.toml; did you mean `optim.lr`?");
    assert_eq!(
        refused("[train.ema]\ncolour = 4"),
        "unknown key `train.ema.colour` in configs/x.toml; the keys of `train.ema` are enabled, decay"
    );
    assert_eq!(
        refused("[[optim.groups]]\npattern = \"a\"\n[[optim.groups]]\npattern = \"b\"\nlrscale = 1"),
        "unknown key `optim.groups[1].lrscale` in configs/x.toml; did you mean `optim.groups[1].lr_scale`?"
    );
    assert_eq!(
        refused("[[optim.groups]]\nlr_scale = 1"),
        "`optim.groups[0].pattern` is missing in configs/x.toml; it has no default, so give it a value"
    );
    assert_eq!(
        refused_over("", &["train.bacth_size=8"]),
        "unknown key `train.bacth_size` in the command line's overrides; did you mean `train.batch_size`?"
    );
}

#[test]
fn wrong_types_and_words_say_what_would_be_right() {
    assert_eq!(
        refused("[train]\nbatch_size = \"four\""),
        "`train.batch_size` in configs/x.toml is the text \"four\"; it must be a whole number that is not negative"
    );
    assert_eq!(
        refused("[train]\nbatch_size = -4"),
        "`train.batch_size` in configs/x.toml is the number -4; it must be a whole number that is not negative"
    );
    assert_eq!(
        refused("[train]\nbatch_size = 0"),
        "`train.batch_size` in configs/x.toml is 0; it must be a whole number, 1 or more"
    );
    assert_eq!(
        refused("[schedule]\nkind = \"cosine\""),
        "`schedule.kind` in configs/x.toml is the text \"cosine\"; it must be \"warmup-cosine\", \"warmup-step\", \
         \"warmup-linear\", \"constant\" or \"step\""
    );
    assert_eq!(
        refused("[data]\nfit = \"center\""),
        "`data.fit` in configs/x.toml is the text \"center\"; it must be \"top-left\", \"centre\", \"stretched\" or \
         \"stretched-bicubic\"; did you mean \"centre\"?"
    );
    assert_eq!(
        refused("[optim]\nbetas = [0.9, 0.99, 0.999]"),
        "`optim.betas` in configs/x.toml is a list of 3; it must be a list of 2"
    );
    assert_eq!(refused("train = 3"), "`train` in configs/x.toml is the number 3; it must be a table");
    assert_eq!(
        refused("[data]\nval_splits = [\"val\", 3]"),
        "`data.val_splits[1]` in configs/x.toml is the number 3; it must be a text in quotes"
    );
    assert_eq!(
        refused("[data]\nval_splits = [\"val\", \"testC\"]"),
        "`data.val_splits[1]` in configs/x.toml is \"testC\"; it must be \"train\", \"val\", \"testA\" or \"testB\" for refcoco (unc)"
    );
    assert!(refused("[train]\nepochs = 3 4").starts_with("configs/x.toml is not valid TOML: "));
    assert!(refused("[optim]\nlr = nan").contains("`optim.lr`"));
    assert!(refused("[run]\nname = \"../x\"").contains("`run.name`"));
}

#[test]
fn contradictions_name_both_keys() {
    for (text, first, second) in [
        ("[train]\nepochs = 3\nsteps = 4", "train.epochs", "train.steps"),
        ("[schedule]\nkind = \"constant\"\nwarmup_steps = 4", "schedule.warmup_steps", "schedule.kind"),
        ("[schedule]\nkind = \"step\"", "schedule.decay_epochs", "schedule.kind"),
        ("[schedule]\ndecay_epochs = [3]", "schedule.decay_epochs", "schedule.kind"),
        ("[schedule]\nmin_lr = 0.1", "schedule.min_lr", "optim.lr"),
        ("[train]\nepochs = 3\n[schedule]\nwarmup_epochs = 3", "schedule.warmup_epochs", "train.epochs"),
        ("[model.evf]\nx = 1", "model.evf", "model.method"),
        ("[model]\ntrain = [\"a\"]", "model.train", "model.freeze"),
        ("[text]\ntokenizer = \"clip\"", "text.vocabulary", "text.tokenizer"),
        ("[data.augment]\nlong_sides = [640]", "data.augment.long_sides[0]", "data.image_size"),
    ] {
        let message = refused(text);
        assert!(
            message.starts_with(&format!("`{first}` and `{second}` in configs/x.toml contradict each other")),
            "{text}: {message}"
        );
    }
}

#[test]
fn overrides() {
    let config = RunConfig::from_toml_str("[train]\nepochs = 25").unwrap();
    let config = config
        .with_overrides(&[
            "train.batch_size=8",
            "data.dataset=refcoco+",
            "data.val_splits=[\"val\", \"testA\"]",
            "run.device = cuda:1",
            "optim.lr=1e-3",
            "model.dit.layers=12",
            "train.steps=40",
            "eval.shuffled_text=true",
        ])
        .unwrap();
    assert_eq!(config.train.batch_size, 8);
    assert_eq!(config.data.dataset, "refcoco+");
    assert_eq!(config.data.val_splits, ["val", "testA"]);
    assert_eq!(config.run.device, "cuda:1");
    assert_eq!((config.train.epochs, config.train.steps), (None, Some(40)));
    assert_eq!((config.schedule.warmup_epochs, config.schedule.warmup_steps), (None, Some(4)));
    assert!(config.eval.shuffled_text);

    let config = RunConfig::resolve("[train]\nsteps = 40", None, &["train.epochs=7"]).unwrap();
    assert_eq!((config.train.epochs, config.train.steps), (Some(7), None));

    assert!(refused_over("", &["train.batch_size"]).contains("has no `=`"));
    assert!(refused_over("", &["=3"]).contains("empty key"));
    assert!(refused_over("", &["data.val_splits=[\"val\""]).contains("looks like TOML"));
    assert!(refused_over("", &["data.root.x=3"]).contains("data.root"));
    assert!(refused_over("[[optim.groups]]\npattern=\"a\"", &["optim.groups.0.lr_scale=3"]).contains("give the whole list"));
    assert!(refused_over("", &["run.seed=1\nname=\"x\""]).contains("`run.seed`"));
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Toy {
    layers: usize,
    kind: ToyKind,
}

impl Default for Toy {
    fn default() -> Self {
        Self { layers: 2, kind: ToyKind::A }
    }
}

#[derive(Debug, Deserialize, PartialEq)]
enum ToyKind {
    A,
    B { depth: u8 },
}

#[test]
fn a_method_reads_its_own_table() {
    let config = RunConfig::from_toml_str("[model.dit]\nlayers = 7\nkind.B.depth = 3").unwrap();
    let toy: Toy = config.method_section().unwrap();
    assert_eq!(toy, Toy { layers: 7, kind: ToyKind::B { depth: 3 } });
    let config = RunConfig::from_toml_str("").unwrap();
    assert_eq!(config.section::<Toy>("model.dit").unwrap(), Toy::default());
    let config = RunConfig::resolve("[model.dit]\nlayer = 7", Some(Path::new("a.toml")), &[] as &[&str]).unwrap();
    assert_eq!(
        config.method_section::<Toy>().unwrap_err().to_string(),
        "unknown key `model.dit.layer` in a.toml; did you mean `model.dit.layers`?"
    );
}

const FULL: &str = r#"
[run]
name = "full"
seed = 7
threads = 2
[data]
root = "data/refcoco"
val_splits = ["val", "testA", "testB"]
[data.augment]
long_sides = [512, 480, 448, 416, 384, 352, 320]
jitter = 0.8
flip = 0.5
flip_text = "substring"
[data.synth]
images = 10
[model]
freeze = ["visual_encoder"]
train = ["visual_encoder.sas*"]
[model.init]
sam = "weights/sam_vit_b.pth"
[model.dit]
variant = "layer-wise"
depths = [1, 2]
[text]
vocabulary = "weights/vocab.txt"
[optim]
name = "adamw"
groups = [{ pattern = "text", lr_scale = 0.1, weight_decay = 0.0 }, { pattern = "*.bias" }]
[schedule]
kind = "warmup-step"
decay_epochs = [30, 35, 37]
[eval]
threshold = 0.35
profile = "dit"
"#;

#[test]
fn the_resolved_plan_round_trips() {
    for text in ["", FULL] {
        let config = RunConfig::from_toml_str(text).unwrap();
        let written = config.to_toml().unwrap();
        let again = RunConfig::from_toml_str(&written).unwrap();
        assert_eq!(again.to_toml().unwrap(), written);
        assert_eq!(again.hash().unwrap(), config.hash().unwrap());
        assert_eq!(config.differences(&again).unwrap(), []);
    }
    let config = RunConfig::from_toml_str(FULL).unwrap();
    assert!(!config.model.trains("visual_encoder.blocks.0"));
    assert!(config.model.trains("visual_encoder.sas.0"));
    assert!(config.model.trains("decoder"));
    assert_eq!(config.optim.group_of("text.x"), Some(0));
    assert_eq!(config.optim.group_of("decoder.bias"), Some(1));
    assert_eq!(config.optim.group_of("decoder.weight"), None);
}

#[test]
fn the_hash_is_about_what_is_computed() {
    let config = RunConfig::from_toml_str(FULL).unwrap();
    let moved =
        config.with_overrides(&["run.name=other", "run.dir=elsewhere", "train.stop_after=20", "run.device=cuda"]).unwrap();
    assert_eq!(config.hash().unwrap(), moved.hash().unwrap());
    let other = config.with_overrides(&["optim.lr=2e-4", "run.seed=8", "eval.limit=3"]).unwrap();
    assert_ne!(config.hash().unwrap(), other.hash().unwrap());
    let differences = config.differences(&other).unwrap();
    let said: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["eval.limit: not given here, 3 there", "optim.lr: 0.0001 here, 0.0002 there", "run.seed: 7 here, 8 there"]);
}

#[test]
fn a_missing_file_is_named() {
    let error = RunConfig::from_path(Path::new("no/such.toml")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the run config no/such.toml: "), "{error}");
}

#[test]
fn ema_ramp() {
    let ema = Ema::default();
    assert_eq!(ema.decay_at(0), 0.1);
    assert_eq!(ema.decay_at(8), 0.5);
    assert_eq!(ema.decay_at(1_000_000), 0.9997);
}

/// The config's file against the table of DIT's code, and a whole run's length from it.
#[test]
fn the_dit_config_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/dit/base.toml");
    let config = RunConfig::from_path(&path).unwrap();
    assert_eq!((config.train.eval_every, config.train.save_every), (Every::Epoch, Every::Epoch));
    assert_eq!(config.data.augment.long_sides.len(), 7);
    assert_eq!(config.model.init.sam.as_deref(), Some("weights/sam_vit_b_01ec64.pth"));
    assert_eq!(config.train.total_steps(42_404 / 64), 26_480);
    assert_eq!(config.eval.profile.name(), "dit");
}

/// Files of a folder by name, and the config of the first one.
fn chained(files: &[(&str, &str)]) -> Result<RunConfig, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let config = RunConfig::load(&folder.path().join(files[0].0), &["run.seed=9"]);
    // Names of the folder differ from run to run.
    config.map_err(|e| e.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn a_config_builds_on_another() {
    let config = chained(&[
        ("row.toml", "extends = \"sub/middle.toml\"\n[train]\nsteps = 7\n[model]\nfreeze = [\"a\"]\n[model.dit]\nlayers = 3"),
        ("sub/middle.toml", "extends = \"../base.toml\"\n[optim]\nlr = 2e-4"),
        (
            "base.toml",
            "[optim]\nlr = 1e-3\neps = 1e-8\n[train]\nepochs = 40\n[model]\nfreeze = [\"b\", \"c\"]\n[model.dit]\nkind = \"A\"",
        ),
    ]);
    let config = config.unwrap();
    assert_eq!((config.optim.lr, config.optim.eps, config.run.seed), (2e-4, 1e-8, 9));
    // A length in steps replaces one in epochs, and a list another list.
    assert_eq!((config.train.steps, config.train.epochs), (Some(7), None));
    assert_eq!(config.model.freeze, ["a"]);
    assert_eq!(config.method_section::<Toy>().unwrap(), Toy { layers: 3, kind: ToyKind::A });
    let again = config.with_overrides(&["train.batch_size=3"]).unwrap();
    assert_eq!((again.optim.lr, again.train.batch_size), (2e-4, 3));
    assert!(!config.to_toml().unwrap().contains("extends"));
}

#[test]
fn keys_of_an_extended_config_can_be_unset() {
    let base = ("base.toml", "[model.init]\nsam = \"s.pth\"\nbert = \"b.pth\"\n[model.dit]\nlayers = 3\n[train]\nsteps = 7");
    let row =
        |unset: &str| chained(&[("row.toml", &format!("extends = \"base.toml\"\nunset = {unset}\n[optim]\nlr = 1e-5")), base]);
    let config = row("[\"model.init.sam\", \"model.dit\"]").unwrap();
    assert_eq!((config.model.init.sam.as_deref(), config.model.init.bert.as_deref()), (None, Some("b.pth")));
    assert_eq!((config.model.dit.as_ref(), config.train.steps, config.optim.lr), (None, Some(7), 1e-5));
    let again = chained(&[
        ("top.toml", "extends = \"row.toml\"\nunset = [\"model.init\"]\n[model.init]\nsam = \"other.pth\""),
        ("row.toml", "extends = \"base.toml\"\n[train]\nsteps = 8"),
        base,
    ]);
    let init = again.unwrap().model.init;
    assert_eq!((init.sam.as_deref(), init.bert), (Some("other.pth"), None));
    for (unset, said) in [
        ("[\"model.init.samm\"]", "`unset` in row.toml is \"model.init.samm\"; it must be keys that the config"),
        ("[\"optim.lr\"]", "`unset` in row.toml is \"optim.lr\""),
        ("\"model.init.sam\"", "must be a list of keys in quotes"),
        ("[3]", "must be a list of keys in quotes"),
    ] {
        let error = row(unset).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_profile_given_by_hand_brings_its_threshold() {
    let config = RunConfig::from_toml_str("[eval]\nprofile = \"dit\"\nthreshold = 0.35").unwrap();
    assert_eq!(config.with_overrides(&["eval.limit=3"]).unwrap().eval.threshold, Some(0.35));
    let other = config.with_overrides(&["eval.profile=risam"]).unwrap();
    assert_eq!((other.eval.profile.name(), other.eval.threshold), ("risam", None));
    for both in [["eval.profile=risam", "eval.threshold=0.4"], ["eval.threshold=0.4", "eval.profile=risam"]] {
        assert_eq!(config.with_overrides(&both).unwrap().eval.threshold, Some(0.4));
    }
}

#[test]
fn a_vocabulary_beside_weights_needs_weights() {
    let text = "[text]\nvocabulary = \"from-weights\"\n";
    assert!(refused(text).starts_with("`text.vocabulary` and `model.init.method` in"), "{}", refused(text));
    let given = RunConfig::from_toml_str(&format!("{text}[model.init]\nmethod = \"w.bin\"")).unwrap();
    assert!(given.text.vocabulary_from_weights() && given.text.vocabulary_file().is_none());
    let pieces = "[text]\ntokenizer = \"sentencepiece\"\nvocabulary = \"from-weights\"\n[model.init]\nmethod = \"w.bin\"";
    assert!(RunConfig::from_toml_str(pieces).is_ok());
}

#[test]
fn errors_name_the_file_that_says_it() {
    let said = |files: &[(&str, &str)]| chained(files).unwrap_err();
    let row = ("row.toml", "extends = \"base.toml\"\n[train]\nsteps = 7");
    assert!(said(&[row, ("base.toml", "[optim]\nlrr = 1")]).starts_with("unknown key `optim.lrr` in base.toml"));
    assert!(said(&[row, ("base.toml", "[optim]\nlr = -1.0")]).starts_with("`optim.lr` in base.toml is -1"));
    assert!(
        said(&[row, ("base.toml", "[optim]\ngroups = [{ pattern = \"\" }]")])
            .starts_with("`optim.groups[0].pattern` in base.toml")
    );
    assert!(said(&[row, ("base.toml", "[optim")]).starts_with("base.toml is not valid TOML"));
    let lost = said(&[row]);
    assert!(lost.starts_with("`extends` in row.toml is \"base.toml\", but base.toml cannot be read"), "{lost}");
    let circle = said(&[row, ("base.toml", "extends = \"row.toml\"")]);
    assert!(circle.starts_with("`extends` in base.toml is \"row.toml\", which leads back"), "{circle}");
    assert!(said(&[("row.toml", "extends = 3")]).starts_with("`extends` in row.toml is 3"));
    assert!(said(&[("row.toml", "extends = \"row.toml\"")]).contains("leads back"));
}

#[test]
fn prompts_other_than_text_are_for_dit() {
    let said = refused("[model]\nmethod = \"evf\"\n[train]\nprompts = [\"text\", \"box\"]");
    assert!(said.starts_with("`train.prompts` and `model.method`"), "{said}");
    assert!(refused("[eval]\nprompt = \"box\"\nshuffled_text = true").starts_with("`eval.shuffled_text` and `eval.prompt`"));
    assert!(refused("[train]\nprompts = []").starts_with("`train.prompts` in configs/x.toml is empty"));
}

#[test]
fn a_mixture_says_what_is_asked_and_how_often() {
    let mixed = "[data]\nitems = \"image\"\nrate = 4\n[[data.also]]\nroot = \"data\"\ndataset = \"ade20k\"\n\
                 split_by = \"challenge\"\nprompt = \"[semantic] {}\"\nrate = 4\n[[data.also]]\ndataset = \"refcoco+\"\n\
                 split_by = \"unc\"\n";
    let data = RunConfig::from_toml_str(mixed).unwrap().data;
    let [ade, plus] = data.also.as_slice() else { panic!("{:?}", data.also) };
    assert_eq!((data.prompt.as_str(), data.rate), ("{}", 4));
    assert_eq!((ade.prompt.as_str(), ade.rate, ade.root.as_deref()), ("[semantic] {}", 4, Some(Path::new("data"))));
    assert_eq!((plus.prompt.as_str(), plus.rate, plus.root.as_deref()), ("{}", 1, None));
    let text = RunConfig::from_toml_str(mixed).unwrap().to_toml().unwrap();
    assert_eq!(RunConfig::from_toml_str(&text).unwrap().data, data, "{text}");
    assert_eq!(
        refused(&mixed.replace("[semantic] {}", "[semantic]")),
        "`data.also[0].prompt` in configs/x.toml is \"[semantic]\"; it must be a text with one {}, where the sentence or the name of \
         the class goes"
    );
    for (from, to, parts) in [
        ("rate = 4\n[[data.also]]\nd", "rate = 0\n[[data.also]]\nd", &["`data.also[0].rate`", "1 or more"][..]),
        ("rate = 4\n[[data.also]]\nr", "rate = 0\n[[data.also]]\nr", &["`data.rate`", "1 or more"]),
        ("rate = 4\n[[data.also]]\nr", "rate = 1.5\n[[data.also]]\nr", &["`data.rate`", "whole number"]),
        ("\"challenge\"", "\"unc\"", &["`data.also[0].split_by`", "\"challenge\" for ade20k"]),
        ("root = \"data\"", "root = \"\"", &["`data.also[0].root`", "not empty"]),
        ("prompt", "promt", &["data.also[0].promt", "`data.also[0].prompt`"]),
        ("items = \"image\"\n", "", &["data.also", "items = \"image\""]),
    ] {
        assert!(mixed.contains(from), "{from}");
        let error = refused(&mixed.replacen(from, to, 1));
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} are not all in \"{error}\"");
    }
    let ade = "[data]\ndataset = \"ade20k\"\nsplit_by = \"challenge\"\n";
    assert!(refused(ade).contains("ade20k has classes"));
    assert!(refused(&format!("{ade}items = \"image\"\nval_splits = [\"test\"]\n")).contains("\"train\" or \"val\""));
}

#[test]
fn added_tokens_need_a_tokenizer_that_takes_them() {
    let text = "[text]\ntokenizer = \"sentencepiece\"\nvocabulary = \"beit3.spm\"\nadded_tokens = [\"[semantic]\"]\n";
    assert_eq!(RunConfig::from_toml_str(text).unwrap().text.added_tokens, ["[semantic]"]);
    let clip = refused(&text.replace("sentencepiece", "clip"));
    assert!(clip.contains("text.added_tokens") && clip.contains("only \"sentencepiece\""), "{clip}");
    assert!(refused(&text.replace("\"[semantic]\"", "\"\"")).contains("`text.added_tokens[0]`"));
    let many = format!("{:?}", (0..9).map(|i| format!("<{i}>")).collect::<Vec<_>>());
    assert!(refused(&text.replace("[\"[semantic]\"]", &many)).contains("at most 8"));
}

/// Nobody has to say that their own data are their own; a maker of splits that own data cannot have is left for whoever opens them.
#[test]
fn own_data_have_own_splits() {
    for set in ["coco", "jsonl", "masks", "label-studio", "yolo-seg"] {
        let config = RunConfig::resolve("", None, &[format!("data.dataset={set}")]).unwrap();
        assert_eq!(config.data.split_by, "own", "{set}");
        let again = RunConfig::from_toml_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(again.data, config.data);
    }
    let config = RunConfig::resolve::<&str>("[data]\ndataset = \"jsonl\"\nval_splits = [\"mine\"]", None, &[]).unwrap();
    assert_eq!(config.data.val_splits, ["mine"]);
    assert_eq!(RunConfig::from_toml_str("").unwrap().data.split_by, "unc");
}

#[test]
fn adapters_and_layers_have_rates_of_their_own() {
    let config = RunConfig::from_toml_str("[train.lora]\nparts = [\"mm_extractor.*\"]").unwrap();
    let lora = config.train.lora.clone().unwrap();
    assert_eq!((lora.rank, lora.alpha), (8, 16.0));
    assert!(lora.adapts("mm_extractor.a.weight") && !lora.adapts("visual_model.a.weight"));
    assert_eq!(RunConfig::from_toml_str(&config.to_toml().unwrap()).unwrap().train, config.train);
    for (text, key) in [
        ("[train.lora]\nrank = 4", "train.lora.parts"),
        ("[train.lora]\nparts = []", "train.lora.parts"),
        ("[train.lora]\nparts = [\"*\"]\nrank = 0", "train.lora.rank"),
        ("[train.lora]\nparts = [\"*\"]\nalpha = -1.0", "train.lora.alpha"),
        ("[train.lora]\nparts = [\"*\"]\nrnak = 1", "train.lora.rank"),
        ("[[optim.groups]]\npattern = \"*\"\nlayer_decay = 1.5", "optim.groups[0].layer_decay"),
    ] {
        let error = RunConfig::from_toml_str(text).unwrap_err().to_string();
        assert!(error.contains(key), "{text}: {error}");
    }
}
