//! A case in words that another program can read: sizes, token ids and config. `tools/bench_torch.py` builds its model of it.

use anyhow::Result;
use burn::tensor::Device;
use models::methods::{AnyMethod, DitMethod, EvfMethod, RisamMethod};
use models::tokenizer::RunTokenizer;
use models::with_method;
use nn_ops::weights::parameters;
use run_config::RunConfig;
use serde_json::{Value, json, to_value};
use text_encoders::Padding;
use trainer::segmenter::Segmenter;

use super::models::{SENTENCES, Size};
use saymask::device;

/// Rows of BEiT-3's table of text positions that no token has.
const UNUSED_POSITIONS: usize = 2;

/// The case of a config.
pub(crate) fn describe(size: Size, run_config: &RunConfig, tokenizer: RunTokenizer) -> Result<Value> {
    let words = tokenizer.shared();
    let parameters = count(run_config, tokenizer.clone(), &device::open("cpu")?)?;
    let (model, length) = match AnyMethod::new(run_config, tokenizer)? {
        AnyMethod::Dit(DitMethod { config, .. }) => (to_value(&config)?, config.text_tokens),
        AnyMethod::Evf(EvfMethod { config, .. }) => {
            let most = config.beit3.max_positions.saturating_sub(UNUSED_POSITIONS);
            (to_value(&config)?, config.max_tokens.min(most))
        }
        AnyMethod::Risam(RisamMethod { config, .. }) => (to_value(&config)?, config.max_tokens()),
    };
    let batch = words.encode_batch(&SENTENCES, length, Padding::Max)?;
    let ids: Vec<&[u32]> = (0..batch.rows()).map(|row| batch.row(row)).collect();
    let (width, height) = size.photo();
    Ok(json!({
        "method": run_config.model.method,
        "size": size,
        "parameters": parameters,
        "input": run_config.data.image_size,
        "photo": [height, width],
        "model": model,
        "ids": ids,
        "lengths": batch.lengths(),
        "freeze": run_config.model.freeze,
        "train": run_config.model.train,
        "optim": run_config.optim,
        "ema": run_config.train.ema,
    }))
}

/// Parameters of a config's model, none of which is made.
pub(crate) fn count(run_config: &RunConfig, tokenizer: RunTokenizer, device: &Device) -> Result<usize> {
    fn of<S: Segmenter>(segmenter: &S, device: &Device) -> Result<usize> {
        let all = parameters(&segmenter.init(device)?, &segmenter.names());
        Ok(all.iter().map(|p| p.shape.iter().product::<usize>()).sum())
    }
    with_method!(&AnyMethod::new(run_config, tokenizer)?, method => of(method, device))
}
