//! Loading published BEiT-3 weights (`beit3_*_patch16_224.pth`).

use burn::tensor::Device;
use nn_ops::weights::{Allow, LoadReport, StateDict, WeightsError, load};

use super::config::Beit3Config;
use super::model::Beit3;

impl Beit3Config {
    /// A model with the weights of `state_dict` (`beit3_*_patch16_224.pth`, whose tensors lie under the key `model`:
    /// open it with `StateDict::open_at(path, Some("model"))`). The heads of pretraining and fine-tuning are not used.
    ///
    /// # Errors
    /// When any other tensor is missing, superfluous or of another shape.
    pub fn load(&self, state_dict: &StateDict, device: &Device) -> Result<(Beit3, LoadReport), WeightsError> {
        let mut model = self.init(device);
        let table = "beit3.text_embed.weight";
        let on_host = model.text_embed.read_to_host(state_dict, table, self.host_table_above)?;
        let mut unused = HEADS.to_vec();
        unused.extend(on_host.then_some(table));
        load(model, state_dict, &Beit3::names().with_prefix("beit3."), &Allow { missing: &[], unused: &unused })
    }
}

/// Tensors of published files that are no part of the encoder: masked-token heads, contrastive and retrieval heads,
/// pooling and classification.
const HEADS: [&str; 12] = [
    "mlm_head.*",
    "mim_head.*",
    "mlm_classifier.*",
    "mim_classifier.*",
    "lm_head.*",
    "language_head.*",
    "vision_head.*",
    "logit_scale",
    "pooler.*",
    "fc_norm.*",
    "head.*",
    "beit3.vision_embed.position_ids",
];
