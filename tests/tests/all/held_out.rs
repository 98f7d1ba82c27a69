//! Mixed sets share images: what serves another split of any of them is not trained on.

use std::collections::BTreeSet;

use refcoco_data::{DatasetSpec, SynthConfig, SynthFormat, generate, held_out_images};
use run_config::RunConfig;
use trainer::data::open_train;

#[test]
fn mixed_sets_do_not_train_on_each_others_test_images() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    // Google's splits of RefCOCOg are by object, so that its val holds images that RefCOCO trains on.
    generate(&SynthConfig { images: 40, size: 48, seed: 3, format: SynthFormat::Refcoco, ..SynthConfig::default() }, &root)
        .unwrap();
    let text = format!(
        "[model]\nmethod = \"evf\"\n[data]\nroot = {:?}\nitems = \"image\"\n\
         also = [{{ dataset = \"refcocog\", split_by = \"google\" }}]\n",
        root.display().to_string()
    );
    let run_config = RunConfig::from_toml_str(&text).unwrap();
    let spec = |name: &str, by: &str| DatasetSpec { root: root.clone(), name: name.into(), split_by: by.into() };
    let held = held_out_images(&[spec("refcoco", "unc"), spec("refcocog", "google")]).unwrap();
    let clean = open_train(&run_config).unwrap();
    assert!(!clean.photos().is_empty() && clean.photos().is_disjoint(&held));
    let warning = clean.warnings.iter().find(|w| w.contains("data.exclude_held_out")).unwrap();

    let all = open_train(&run_config.with_overrides(&["data.exclude_held_out=false"]).unwrap()).unwrap();
    let leaked: BTreeSet<_> = all.photos().intersection(&held).copied().collect();
    assert!(!leaked.is_empty() && !all.warnings.iter().any(|w| w.contains("exclude_held_out")));
    let gone = all.images.iter().filter(|image| held.contains(&image.photo)).count();
    assert!(warning.starts_with(&format!("{gone} images")), "{warning}");
    // A set alone has nothing to leak from.
    let alone = open_train(&run_config.with_overrides(&["data.also=[]"]).unwrap()).unwrap();
    assert!(alone.warnings.iter().all(|w| !w.contains("exclude_held_out")));
}
