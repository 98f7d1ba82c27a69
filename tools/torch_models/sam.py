"""Hugging Face's SAM from our sizes, its parameters under the authors' names, and the parts that the methods put together."""

import re

import torch
import torch.nn.functional as F
from transformers import SamConfig, SamModel, SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

EPS = 1e-5  # of the released decoder; the port's default is 1e-6

RENAMES = [  # from the port's names to the authors'
    (r"^vision_encoder\.", "image_encoder."),
    (r"^prompt_encoder\.shared_embedding\.positional_embedding$", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"\.point_embed\.", ".point_embeddings."),
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
    (r"^image_encoder\.layers\.", "image_encoder.blocks."),
    (r"\.layer_norm", ".norm"),
]
NUMBERED = [  # modules that are numbers in the authors' names
    (".neck.", ["conv1", "norm1", "conv2", "norm2"]),
    (".mask_embed.", ["conv1", "norm1", None, "conv2", "norm2", None, "conv3"]),
    (".upscale_", ["conv1", "layer_norm", None, "conv2"]),
]
HEADS = r"(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.(proj_in|layers\.0|proj_out)\."
HEAD_LAYERS = {"proj_in": 0, "layers.0": 1, "proj_out": 2}


def official(name):
    """The authors' name of a tensor of `SamModel`; none for the copy of the position frequencies."""
    if name.startswith("shared_image_embedding."):
        return None
    name = re.sub(HEADS, lambda m: f"{m[1]}.layers.{HEAD_LAYERS[m[2]]}.", name)
    for pattern, to in RENAMES:
        name = re.sub(pattern, to, name)
    for stem, modules in NUMBERED:
        for number, module in enumerate(modules):
            if module and f"{stem}{module}." in name:
                name = name.replace(f"{stem}{module}.", f"{stem}{number}.")
    return name.replace(".mask_embed.", ".mask_downscaling.").replace(".upscale_", ".output_upscaling.")


def vision_sizes(sizes):
    return dict(
        image_size=sizes["image_size"],
        patch_size=sizes["patch_size"],
        hidden_size=sizes["embed_dim"],
        num_hidden_layers=sizes["depth"],
        num_attention_heads=sizes["heads"],
        mlp_dim=int(sizes["embed_dim"] * sizes["mlp_ratio"]),
        output_channels=sizes["out_channels"],
        window_size=sizes["window_size"],
        global_attn_indexes=sizes["global_blocks"],
        num_pos_feats=sizes["out_channels"] // 2,
    )


def model(sizes, attention):
    """A whole SAM of our `SamConfig`."""
    encoder = sizes["image_encoder"]
    width = encoder["out_channels"]
    prompts = dict(
        hidden_size=width,
        image_size=encoder["image_size"],
        patch_size=encoder["patch_size"],
        image_embedding_size=encoder["image_size"] // encoder["patch_size"],
        mask_input_channels=sizes["mask_in_channels"],
    )
    decoder = dict(
        hidden_size=width,
        mlp_dim=sizes["decoder_mlp_dim"],
        num_hidden_layers=sizes["decoder_depth"],
        num_attention_heads=sizes["decoder_heads"],
        layer_norm_eps=EPS,
    )
    parts = dict(vision_config=vision_sizes(encoder), prompt_encoder_config=prompts, mask_decoder_config=decoder)
    return SamModel(SamConfig(**parts, attn_implementation=attention))


def encoder(sizes, attention):
    """SAM's image encoder alone."""
    return SamVisionEncoder._from_config(SamVisionConfig(**vision_sizes(sizes)), attn_implementation=attention)


def patches(vision, images):
    """Patch tokens with their positions, resized where the input is not of the configured size. -> [B, h, w, C]"""
    x = vision.patch_embed.projection(images).permute(0, 2, 3, 1)
    table = vision.pos_embed
    if table.shape[1:3] != x.shape[1:3]:
        size = x.shape[1:3]
        table = F.interpolate(table.permute(0, 3, 1, 2), size, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    return x + table


def taps(vision, images, wanted):
    """Outputs of some blocks, each [B, h, w, C]; the neck is left out."""
    x, found = patches(vision, images), []
    for index, layer in enumerate(vision.layers[: max(wanted) + 1]):
        x = layer(x)
        if index in wanted:
            found.append(x)
    return found


def frequencies(matrix, height, width):
    """Positions of a grid from SAM's frequencies, in single precision. -> [1, C, height, width]"""
    with torch.autocast(matrix.device.type, enabled=False):
        axis = lambda n: 2 * (torch.arange(n, device=matrix.device) + 0.5) / n - 1
        y, x = torch.meshgrid(axis(height), axis(width), indexing="ij")
        v = 2 * torch.pi * (torch.stack([x, y], -1) @ matrix.float())
        return torch.cat([v.sin(), v.cos()], -1).permute(2, 0, 1)[None]


def decode(sam, embeddings, tokens):
    """Low-resolution logits under free tokens. embeddings: [B, C, h, w]; tokens: [B, N, T, C], N prompts an image
    -> [B N, 1, 4h, 4w]"""
    height, width = embeddings.shape[2:]
    positions = frequencies(sam.shared_image_embedding.positional_embedding, height, width)
    dense = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, height, width)
    masks, _ = sam.mask_decoder(embeddings, positions.expand(len(embeddings), -1, -1, -1), tokens, dense, multimask_output=False)
    return masks.flatten(0, 1)
