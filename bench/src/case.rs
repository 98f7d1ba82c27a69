//! A case in words that another program can read: sizes, token ids and recipe. `tools/bench_torch.py` builds its model of it.

use anyhow::Result;
use burn::tensor::Device;
use nn_ops::weights::parameters;
use serde_json::{Value, json, to_value};
use text_encoders::Padding;
use trainer::models::{Dit, Evf, Risam};
use trainer::plan::{Method, RunPlan};
use trainer::segmenter::Segmenter;
use trainer::tokenizer::RunTokenizer;

use super::models::{SENTENCES, Size};
use saymask::device;

/// Rows of BEiT-3's table of text positions that no token has.
const UNUSED_POSITIONS: usize = 2;

/// The case of a plan.
pub(crate) fn describe(size: Size, plan: &RunPlan, tokenizer: RunTokenizer) -> Result<Value> {
    let words = tokenizer.shared();
    let parameters = count(plan, tokenizer.clone(), &device::open("cpu")?)?;
    let (model, length) = match plan.model.method {
        Method::Dit => {
            let config = Dit::new(plan, tokenizer)?.config;
            (to_value(&config)?, config.text_tokens)
        }
        Method::Evf => {
            let config = Evf::new(plan, tokenizer)?.config;
            let most = config.beit3.max_positions.saturating_sub(UNUSED_POSITIONS);
            (to_value(&config)?, config.max_tokens.min(most))
        }
        Method::Risam => {
            let config = Risam::new(plan, tokenizer)?.config;
            (to_value(&config)?, config.max_tokens())
        }
    };
    let batch = words.encode_batch(&SENTENCES, length, Padding::Max)?;
    let ids: Vec<&[u32]> = (0..batch.rows()).map(|row| batch.row(row)).collect();
    let (width, height) = size.photo();
    Ok(json!({
        "method": plan.model.method,
        "size": size,
        "parameters": parameters,
        "input": plan.data.image_size,
        "photo": [height, width],
        "model": model,
        "ids": ids,
        "lengths": batch.lengths(),
        "freeze": plan.model.freeze,
        "train": plan.model.train,
        "optim": plan.optim,
        "ema": plan.train.ema,
    }))
}

/// Parameters of a plan's model, none of which is made.
pub(crate) fn count(plan: &RunPlan, tokenizer: RunTokenizer, device: &Device) -> Result<usize> {
    fn of<S: Segmenter>(segmenter: &S, device: &Device) -> Result<usize> {
        let all = parameters(&segmenter.init(device)?, &segmenter.names());
        Ok(all.iter().map(|p| p.shape.iter().product::<usize>()).sum())
    }
    match plan.model.method {
        Method::Dit => of(&Dit::new(plan, tokenizer)?, device),
        Method::Evf => of(&Evf::new(plan, tokenizer)?, device),
        Method::Risam => of(&Risam::new(plan, tokenizer)?, device),
    }
}
