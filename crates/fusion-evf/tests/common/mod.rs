//! A toy that the integration tests share.

use fusion_evf::EvfConfig;
use sam_vit::{ImageEncoderConfig, SamConfig};
use text_encoders::beit3::Beit3Config;

/// BEiT-3 of two narrow layers, SAM of two, on 64 pixels.
pub(crate) fn toy(vocabulary: usize) -> EvfConfig {
    let image_encoder = ImageEncoderConfig {
        image_size: 64,
        embed_dim: 16,
        depth: 2,
        heads: 2,
        out_channels: 32,
        window_size: 3,
        global_blocks: vec![1],
        ..ImageEncoderConfig::default()
    };
    EvfConfig {
        sam: SamConfig { image_encoder, decoder_mlp_dim: 32, ..SamConfig::default() },
        beit3: Beit3Config::tiny(vocabulary),
        ..EvfConfig::default()
    }
}
