//! Official names, shapes and logits of every form, as they were recorded when the checkpoints' names were settled.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::Device;
use common::{Letters, forms, model, tensor};
use fusion_evf::EvfImages;
use nn_ops::weights::{export, parameters};

/// Form, number of parameters, FNV-1a hash of the sorted lines "name shape", mean of the logits' sizes.
const RECORDED: [(&str, usize, u64, f32); 12] = [
    ("ClipText ImageCls None", 215, 0xed0e_b7bc_f83b_9878, 0.3419311),
    ("ClipLate ImageCls None", 255, 0xad2a_e19e_d9cb_8b00, 0.19264257),
    ("ViltText ImageCls None", 224, 0xcdf5_da94_73c5_3e8c, 0.46218035),
    ("ViltLate ImageCls None", 224, 0xbdcb_0136_1cf8_aac4, 0.2969604),
    ("ViltEarly ImageCls None", 224, 0xcdf5_da94_73c5_3e8c, 0.46657416),
    ("Beit3Text ImageCls None", 269, 0x1b3f_5fad_9737_1ad1, 0.37208202),
    ("Beit3Late ImageCls None", 269, 0xb382_28ea_a547_c4ad, 0.34148505),
    ("Beit3Early ImageCls None", 269, 0x1b3f_5fad_9737_1ad1, 0.2599125),
    ("Beit3Early TextCls None", 269, 0x1b3f_5fad_9737_1ad1, 0.30802283),
    ("Beit3Early AvgPool None", 269, 0x1b3f_5fad_9737_1ad1, 0.29929945),
    ("Beit3Early Concat None", 269, 0xb382_28ea_a547_c4ad, 0.36983135),
    ("Beit3Early ImageCls Some([1])", 269, 0x1b3f_5fad_9737_1ad1, 0.29581726),
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
    for (config, (recorded, count, hash, mean)) in forms.into_iter().zip(RECORDED) {
        let name = format!("{:?} {:?} {:?}", config.encoder, config.feature, config.beit3.fused_layers);
        assert_eq!(name, recorded);
        let model = model(&config, &device);
        let mut lines: Vec<String> =
            parameters(&model, &model.names()).iter().map(|p| format!("{} {:?}", p.name, p.shape)).collect();
        lines.sort();
        assert_eq!((lines.len(), fnv1a(&lines)), (count, hash), "{name}: {}", lines.join("\n"));
        let images = EvfImages { sam: tensor("sam", [2, 3, 64, 64], &device), multimodal: tensor("mm", [2, 3, 32, 32], &device) };
        let batch = model.tokens(&Letters, &["red", "zebra", "man"]).unwrap();
        let logits = model.valid().forward(images, &batch, &[1, 0, 1]).unwrap().logits;
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
