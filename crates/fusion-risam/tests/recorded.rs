//! Official names, shapes and logits of every form, as they were recorded when the checkpoints' names were settled.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::Device;
use common::{Letters, forms, model, tensor};
use nn_ops::weights::{export, parameters};

/// Form, number of parameters, FNV-1a hash of the sorted lines "name shape", mean of the logits' sizes.
const RECORDED: [(&str, usize, u64, f32); 27] = [
    ("paper", 193, 0x4d3b_fa2f_6923_c1e2, 0.9318807),
    ("fe none", 171, 0xc702_6313_7bb2_f07d, 1.6528786),
    ("fe vit_det", 203, 0x9342_32c3_9b03_e4d4, 1.1881356),
    ("single linear, tap norm", 191, 0x2969_23fa_193d_f6cd, 1.4178752),
    ("ma conv", 194, 0xcad2_ceac_eb2a_8060, 3.4844146),
    ("ma te", 214, 0xf8e0_1baf_a529_3490, 6.2787557),
    ("ma sdf", 193, 0x4d3b_fa2f_6923_c1e2, 1.0801704),
    ("ma bcm", 197, 0x8e39_6c86_8a5d_d8d0, 0.9762931),
    ("no mask", 193, 0x4d3b_fa2f_6923_c1e2, 0.9318807),
    ("three blocks", 223, 0xc027_613c_2987_2c90, 4.6108027),
    ("one block", 163, 0x5748_aef5_cec7_1c12, 0.1964167),
    ("regions", 193, 0x4d3b_fa2f_6923_c1e2, 0.7646259),
    ("no position", 193, 0x4d3b_fa2f_6923_c1e2, 0.8175098),
    ("learned position", 194, 0xfc3d_8e7a_7566_977c, 0.6404475),
    ("decoder position", 193, 0x4d3b_fa2f_6923_c1e2, 0.67573094),
    ("visual position", 194, 0x7719_929e_4639_ddf2, 0.94665647),
    ("toi", 225, 0xd287_f0b2_31e0_9fa6, 1.1239314),
    ("norms", 237, 0x4e26_192b_7cc9_86a8, 0.18663944),
    ("no elg", 193, 0x4d3b_fa2f_6923_c1e2, 0.74843943),
    ("vlt head", 143, 0x0100_046c_db57_53cd, 0.14756702),
    ("decoder sam", 248, 0x4a2c_3f16_81b7_207c, 0.26332176),
    ("gelu", 193, 0x4d3b_fa2f_6923_c1e2, 0.13949779),
    ("baseline", 212, 0xc149_f7b5_55cd_7118, 0.16330217),
    ("clip", 198, 0x781d_4fe4_039f_d9a2, 1.525403),
    ("swin, tap norm", 245, 0xf319_a0a8_f794_67ec, 1.0775653),
    ("swin, vit_det", 247, 0x88ec_219b_d2dd_b310, 1.4176848),
    ("swin, decoder sam", 294, 0xcac5_d839_8a5f_118d, 0.2767337),
];

fn fnv1a(lines: &[String]) -> u64 {
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn names_shapes_and_logits_are_as_recorded() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bpk");
    let forms = forms();
    assert_eq!(forms.len(), RECORDED.len());
    for ((name, config), (recorded, count, hash, mean)) in forms.into_iter().zip(RECORDED) {
        assert_eq!(name, recorded);
        let model = model(&config, &device);
        let mut lines: Vec<String> =
            parameters(&model, &model.names()).iter().map(|p| format!("{} {:?}", p.name, p.shape)).collect();
        lines.sort();
        assert_eq!((lines.len(), fnv1a(&lines)), (count, hash), "{name}: {}", lines.join("\n"));
        let batch = model.tokens(&Letters, &["abc", "de"]).unwrap();
        let logits = model.valid().forward(tensor("image", [2, 3, 64, 64], &device), &batch, &[0, 1]).unwrap().logits;
        let found = logits.abs().mean().into_scalar::<f32>();
        assert!((found - mean).abs() < 1e-4 * mean, "{name}: {found} instead of {mean}");

        // Burn's own records hold all of it, too.
        model.clone().into_record().save(&path).unwrap();
        let fresh = config.init(&device).unwrap();
        let read = fresh.try_load_record(ModuleRecord::load(&path).unwrap()).unwrap();
        assert_eq!(read.config(), &config, "{name}");
        let [written, read] = [&model, &read].map(|model| export(model, &config.names(), "record"));
        assert!(written.names().all(|n| read.read(n).unwrap() == written.read(n).unwrap()), "{name}");
    }
}
