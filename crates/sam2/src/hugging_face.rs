//! Key names of Hugging Face's port (`facebook/sam2.1-hiera-large` and its siblings), made of the released ones.

use nn_ops::weights::{KeyMap, StateDict, WeightsError};

/// The patch projection, by which the port is known.
pub(crate) const PATCH: &str = "vision_encoder.backbone.patch_embed.projection.weight";
/// A tensor that the checkpoints of SAM 2.1 alone have.
pub(crate) const ONLY_2_1: &str = "occlusion_spatial_embedding_parameter";
/// The position frequencies where they belong ..
const OWN: &str = "prompt_encoder.shared_embedding.positional_embedding";
/// .. and the other name that the port gives them.
const TIED: &str = "shared_image_embedding.positional_embedding";
/// The embeddings of the four kinds of points, one below the other.
const POINTS: &str = "prompt_encoder.point_embed.weight";

/// From the released keys, which `released` makes, to the port's.
pub(crate) fn names(released: KeyMap) -> KeyMap {
    let heads = ["iou_prediction_head", "pred_obj_score_head", "obj_ptr_proj"].map(str::to_owned);
    let heads = heads.into_iter().chain((0..4).map(|k| format!("output_hypernetworks_mlps.{k}")));
    // The first layer gives up its number before the middle one takes it.
    let heads = heads.flat_map(|head| {
        [("0", "proj_in"), ("1", "layers.0"), ("2", "proj_out")]
            .map(|(layer, to)| (format!("{head}.layers.{layer}."), format!("{head}.{to}.")))
    });
    let halvings = (0..4).flat_map(|k| {
        [("conv", 3 * k), ("layer_norm", 3 * k + 1)]
            .map(|(part, at)| (format!("mask_downsampler.encoder.{at}."), format!("mask_downsampler.layers.{k}.{part}.")))
    });
    let laterals = (0..4).map(|k| (format!("neck.convs.{k}.conv."), format!("neck.convs.{k}.")));
    let rules: Vec<(String, String)> = heads.chain(halvings).chain(laterals).collect();
    let rules: Vec<(&str, &str)> = rules.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    released.then(&rules).then(&[
        ("mask_downsampler.encoder.12.", "mask_downsampler.final_conv."),
        ("image_encoder.neck.", "vision_encoder.neck."),
        ("image_encoder.trunk.", "vision_encoder.backbone."),
        ("patch_embed.proj.", "patch_embed.projection."),
        (".mlp.layers.0.", ".mlp.proj_in."),
        (".mlp.layers.1.", ".mlp.proj_out."),
        (".norm", ".layer_norm"),
        ("out_proj.", "o_proj."),
        ("sam_mask_decoder.", "mask_decoder."),
        ("mask_decoder.output_upscaling.0.", "mask_decoder.upscale_conv1."),
        ("mask_decoder.output_upscaling.1.", "mask_decoder.upscale_layer_norm."),
        ("mask_decoder.output_upscaling.3.", "mask_decoder.upscale_conv2."),
        ("sam_prompt_encoder.", "prompt_encoder."),
        ("mask_downscaling.0.", "mask_embed.conv1."),
        ("mask_downscaling.1.", "mask_embed.layer_norm1."),
        ("mask_downscaling.3.", "mask_embed.conv2."),
        ("mask_downscaling.4.", "mask_embed.layer_norm2."),
        ("mask_downscaling.6.", "mask_embed.conv3."),
        ("point_embeddings.", "point_embed."),
        ("pe_layer.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
        ("memory_encoder.o_proj.", "memory_encoder.projection."),
        ("memory_encoder.pix_feat_proj.", "memory_encoder.feature_projection."),
        ("memory_encoder.fuser.", "memory_encoder.memory_fuser."),
        (".dwconv.", ".depthwise_conv."),
        (".pwconv", ".pointwise_conv"),
        (".gamma", ".scale"),
        ("obj_ptr_tpos_proj.", "temporal_positional_encoding_projection_layer."),
        ("obj_ptr", "object_pointer"),
        ("no_obj_embed_spatial", ONLY_2_1),
        ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
        ("no_mem_embed", "no_memory_embedding"),
        ("no_mem_pos_enc", "no_memory_positional_encoding"),
    ])
}

/// A file of the port with one tensor per parameter: points apart, frequencies under one name.
///
/// # Errors
/// Frequencies that differ under their two names, or point embeddings that are not four.
pub(crate) fn unpacked(state_dict: &StateDict) -> Result<StateDict, WeightsError> {
    let (own, tied) = (state_dict.shape(OWN), state_dict.shape(TIED));
    if own.is_some() && tied.is_some() && (own != tied || state_dict.read(OWN)? != state_dict.read(TIED)?) {
        let what = format!("differs from `{OWN}`; the two are one tensor");
        return Err(WeightsError::Tensor { path: state_dict.path().to_owned(), name: TIED.into(), what });
    }
    let keeps_own = own.is_some();
    let mut unpacked = state_dict.clone().rename(|name| match name {
        TIED => (!keeps_own).then(|| OWN.to_owned()),
        other => Some(other.to_owned()),
    })?;
    if unpacked.shape(POINTS).is_some() {
        unpacked.split_rows(POINTS, &point_names())?;
    }
    Ok(unpacked)
}

/// Undoes [`unpacked`].
///
/// # Errors
/// None in practice: the tensors are in memory.
pub(crate) fn packed(mut state_dict: StateDict) -> Result<StateDict, WeightsError> {
    let mut points = Vec::new();
    let mut width = 0;
    for name in point_names() {
        width = state_dict.shape(&name).and_then(|shape| shape.last().copied()).unwrap_or(width);
        points.extend(state_dict.read(&name)?);
    }
    let frequencies = state_dict.read(OWN)?;
    let shape = state_dict.shape(OWN).unwrap_or_default().to_vec();
    state_dict = state_dict.rename(|name| (!point_names().iter().any(|point| point == name)).then(|| name.to_owned()))?;
    state_dict.insert(POINTS, &[points.len() / width.max(1), width], points);
    state_dict.insert(TIED, &shape, frequencies);
    Ok(state_dict)
}

fn point_names() -> [String; 4] {
    std::array::from_fn(|kind| format!("prompt_encoder.point_embed.{kind}.weight"))
}
