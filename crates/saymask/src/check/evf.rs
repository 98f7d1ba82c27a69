//! Goldens of kind `evf`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};
use fusion_evf::{EvfConfig, loss};
use nn_ops::weights::{KeyMap, load_formula};
use serde_json::Value;
use text_encoders::beit3::Beit3Config;
use text_encoders::check::cases;

use super::golden::Golden;

/// The output that goes through the projector.
const PROJECTED: &str = "beit3_large.cls";

pub(super) fn run(golden: &mut Golden) -> Result<()> {
    let seed = golden.seed()?;
    let expected = golden.expected();
    for case in cases(&metadata(golden)?)? {
        for output in case.run(&golden.device, |name| expected.iter().any(|e| e == name))? {
            golden.compare_values(&output.name, &output.values);
            if output.name == PROJECTED && expected.iter().any(|e| e == "projected_prompt") {
                let Some(&[rows, dim]) = output.shape.get(..) else { bail!("{PROJECTED} has the shape {:?}", output.shape) };
                let config = EvfConfig { beit3: Beit3Config { dim, ..Beit3Config::large() }, ..EvfConfig::default() };
                let names = KeyMap::new(&[("^first.", "0."), ("^second.", "2.")]).with_prefix("text_hidden_fcs.0.");
                let (projector, _) = load_formula(config.init_projector(&golden.device), &seed, &names);
                let cls = Tensor::<2>::from_data(TensorData::new(output.values, [rows, dim]), &golden.device);
                golden.compare("projected_prompt", projector.forward(cls));
            }
        }
    }
    if expected.iter().any(|e| e.starts_with("loss.")) {
        let pair = (golden.input::<3>("in.logits")?, golden.input::<3>("in.target")?);
        let losses = loss(&EvfConfig::default(), vec![pair]).context("a loss of no masks")?;
        golden.compare("loss.bce", losses.bce);
        golden.compare("loss.dice", losses.dice);
    }
    Ok(())
}

/// What the text encoders' cases read, with nothing thinned: comparing thins, and the projector needs all of its input.
fn metadata(golden: &Golden) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::from([("kind".to_owned(), "evf".to_owned()), ("seed".to_owned(), golden.seed()?)]);
    let models = golden.expected().into_iter().filter_map(|name| name.split_once('.').map(|(model, _)| model.to_owned()));
    for key in models.filter(|m| m.starts_with("beit3_")).chain(["inputs".to_owned()]) {
        found.insert(key.clone(), golden.meta::<Value>(&key)?.to_string());
    }
    Ok(found)
}
