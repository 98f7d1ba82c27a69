//! Official names, shapes and logits of every form, as they were recorded when the checkpoints' names were settled.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::Device;
use common::{input, model, toy, words};
use fusion_dit::{DitConfig, EncoderAttention, TextKind, Variant};
use nn_ops::weights::{export, parameters};

/// Form, number of parameters, FNV-1a hash of the sorted lines "name shape", mean of the logits' sizes.
const RECORDED: [(&str, usize, u64, f32); 11] = [
    ("DefaultSam", 215, 0x2c7f_97f8_62b7_9ff8, 0.08422675),
    ("LayerWise", 219, 0xde86_069e_cc0b_e7de, 0.08648961),
    ("E2e", 219, 0xde86_069e_cc0b_e7de, 0.10460198),
    ("E2eToken", 218, 0x6b7f_44c2_ff90_2e6d, 0.06831326),
    ("TokenLayerWise", 216, 0x0fca_7faa_2f3d_0362, 0.06879076),
    ("CrossAttention", 229, 0x85f0_919d_938e_3ad8, 0.096098006),
    ("CrossAttentionOpp", 227, 0x3f87_02ce_2ce9_c722, 0.06703547),
    ("CrossAttentionFfn", 251, 0x094a_8bbd_04ee_6638, 0.076147795),
    ("Cascade", 219, 0xde86_069e_cc0b_e7de, 0.1103048),
    ("clip, transform", 219, 0x82b8_7724_e5b0_933a, 0.16215363),
    ("windowed", 219, 0xde86_069e_cc0b_e7de, 0.10064703),
];

fn forms() -> Vec<(String, DitConfig)> {
    use Variant::*;
    let variants =
        [DefaultSam, LayerWise, E2e, E2eToken, TokenLayerWise, CrossAttention, CrossAttentionOpp, CrossAttentionFfn, Cascade];
    let mut forms: Vec<(String, DitConfig)> = variants.map(|v| (format!("{v:?}"), toy(v))).into();
    let clip = DitConfig { text_encoder: TextKind::Clip, text_transform: true, ..toy(LayerWise) };
    forms.push(("clip, transform".into(), clip));
    forms.push(("windowed".into(), DitConfig { attention: EncoderAttention::Windowed, ..toy(E2e) }));
    forms
}

fn fnv1a(lines: &[String]) -> u64 {
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn names_shapes_and_logits_are_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bpk");
    let forms = forms();
    assert_eq!(forms.len(), RECORDED.len());
    for ((name, config), (recorded, count, hash, mean)) in forms.into_iter().zip(RECORDED) {
        assert_eq!(name, recorded);
        let model = model(&config);
        let mut lines: Vec<String> =
            parameters(&model, &model.names()).iter().map(|p| format!("{} {:?}", p.name, p.shape)).collect();
        lines.sort();
        assert_eq!((lines.len(), fnv1a(&lines)), (count, hash), "{name}: {}", lines.join("\n"));
        let batch = model.tokens(&words(), &["red", "left zebra"]).unwrap();
        let logits = model.valid().forward(input("image", [2, 3, 32, 32]), &batch, &[0, 1]).unwrap().logits;
        let found = logits.abs().mean().into_scalar::<f32>();
        assert!((found - mean).abs() < 1e-4 * mean, "{name}: {found} instead of {mean}");

        // Burn's own records hold all of it, too.
        model.clone().into_record().save(&path).unwrap();
        let fresh = config.init(&Device::flex()).unwrap();
        let read = fresh.try_load_record(ModuleRecord::load(&path).unwrap()).unwrap();
        assert_eq!(read.config(), &config, "{name}");
        let [written, read] = [&model, &read].map(|model| export(model, &config.names(), "record"));
        assert!(written.names().all(|n| read.read(n).unwrap() == written.read(n).unwrap()), "{name}");
    }
}
