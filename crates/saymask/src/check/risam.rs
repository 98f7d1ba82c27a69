//! Goldens of kind `risam`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use burn::module::Module;
use burn::tensor::DType;
use fusion_risam::{ImageFeatures, LinguisticPosition, RisamConfig, loss, net_names};
use nn_ops::weights::parameters;
use sam_vit::{ImageEncoderConfig, SamConfig};
use serde::Deserialize;
use text_encoders::clip::ClipTextConfig;

use super::golden::Golden;

#[derive(Deserialize)]
struct Case {
    encoder: usize,
    text: usize,
    width: usize,
    heads: usize,
    blocks: usize,
    ma: usize,
    tau: f64,
    up: [usize; 2],
    grid: [usize; 2],
    words: usize,
    lengths: Vec<usize>,
    parameters: usize,
}

pub(super) fn run(golden: &mut Golden) -> Result<()> {
    let cases: BTreeMap<String, Case> = golden.meta("cases")?;
    for (name, case) in cases {
        let config = RisamConfig {
            // Encoders are not built: their widths are all that counts.
            sam: SamConfig {
                image_encoder: ImageEncoderConfig { embed_dim: case.encoder, heads: 1, ..SamConfig::vit_h().image_encoder },
                ..SamConfig::default()
            },
            clip: ClipTextConfig { width: case.text, heads: 1, ..ClipTextConfig::default() },
            words: case.words,
            // The reference takes its text features with whatever positions they have.
            linguistic_position: LinguisticPosition::None,
            width: case.width,
            heads: case.heads,
            decoder_blocks: case.blocks,
            interaction_blocks: case.ma,
            tau: case.tau,
            up_channels: case.up,
            ..RisamConfig::default()
        };
        config.validate().map_err(|e| anyhow!("case {name}: {e}"))?;
        let (net, _) = golden.model(config.init_net(&golden.device), &net_names())?;
        // The reference's count leaves the batch norms' running statistics out.
        let weights = parameters(&net, &net_names());
        let weights = weights.iter().filter(|p| !p.name.contains(".running_"));
        golden.compare_count(
            &format!("{name}.parameters"),
            weights.map(|p| p.shape.iter().product::<usize>()).sum(),
            case.parameters,
        );
        let net = net.valid();

        let input = |what: &str| format!("in.{name}.{what}");
        let taps = [golden.features::<4>(&input("tap1"))?, golden.features(&input("tap2"))?, golden.features(&input("tap3"))?];
        let grid = (case.grid[0], case.grid[1]);
        let image = ImageFeatures { taps, embedding: None };
        let text = golden.features::<3>(&input("text"))?;
        let map = net.enhance(&image);
        golden.compare(&format!("{name}.feature_enhancement"), map.clone());
        let pairs = net.interact(&config, map, text.clone(), &case.lengths);
        for (i, pair) in pairs.iter().enumerate() {
            golden.compare(&format!("{name}.ma{i}.visual"), pair.visual.clone());
            golden.compare(&format!("{name}.ma{i}.language"), pair.language.clone());
        }
        let last = pairs.last().with_context(|| format!("case {name} has no interaction block"))?;
        let state = net.decode(&config, last, &case.lengths, grid);
        golden.compare(&format!("{name}.decoder.visual"), state.visual);
        golden.compare(&format!("{name}.decoder.query"), state.tokens.narrow(1, 0, 1).squeeze_dim::<2>(1));

        let image_of: Vec<usize> = (0..case.lengths.len()).collect();
        let out = net.forward(&config, &image, &image_of, text, &case.lengths)?;
        golden.compare(&format!("{name}.logits"), out.low_res.clone());
        let losses = loss(&config, out.low_res.cast(DType::F32), golden.input(&input("mask"))?, None);
        golden.compare(&format!("{name}.loss.focal"), losses.focal);
        golden.compare(&format!("{name}.loss.dice"), losses.dice);
        golden.compare(&format!("{name}.loss.total"), losses.total);
    }
    Ok(())
}
