"""EVF-SAM: BEiT-3 reads image and sentence together, and its image [CLS] becomes SAM's one prompt."""

import torch
import torch.nn.functional as F
from torch import nn

from . import sam
from .beit3 import Beit3
from .common import MEAN, STD, dice, place, restore

DICE_EPS, DICE_SCALE = 1e-6, 1000.0


def square(unit, side):
    """BEiT-3's input from values in [0, 1]: bicubic, aspect ignored, no antialiasing, not clamped."""
    return F.interpolate(unit, (side, side), mode="bicubic", align_corners=False) * 2 - 1


def losses(logits, targets):
    """Cross entropy and dice loss. [N, H, W] -> two numbers"""
    logits, targets = logits.flatten(1), targets.flatten(1).clamp(max=1)
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    return bce.mean(), dice(logits, targets, DICE_EPS, DICE_SCALE).mean()


class Evf(nn.Module):
    """EVF-SAM with BEiT-3."""

    compiled = ["embed", "answer"]
    pads = "longest"

    def __init__(self, config, attention):
        super().__init__()
        if (config["encoder"], config["feature"]) != ("beit3_early", "image_cls"):
            raise SystemExit("EVF-SAM in PyTorch has encoder beit3_early with feature image_cls only")
        self.config = config
        width = config["beit3"]["dim"]
        self.sam = sam.model(config["sam"], attention)
        self.beit3 = Beit3(config["beit3"], attention)
        projector = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.sam.mask_decoder.hidden_size))
        self.text_hidden_fcs = nn.ModuleList([projector])

    @staticmethod
    def official(name):
        if name.startswith("sam."):
            name = sam.official(name.removeprefix("sam."))
            return name and f"visual_model.{name}"
        return f"mm_extractor.{name}" if name.startswith("beit3.") else name

    def trains(self, name):
        config = self.config
        if not name.startswith("visual_model."):
            return config["train_encoder"] or not name.startswith("mm_extractor.")
        name = name.removeprefix("visual_model.")
        if name.startswith("mask_decoder."):
            return config["train_mask_decoder"]
        if name.startswith("image_encoder."):
            return config["train_image_encoder"]
        return config["train_prompt_encoder"] and name.startswith("prompt_encoder.no_mask_embed.")

    def embed(self, images):
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config["train_image_encoder"]):
            return self.sam.vision_encoder(images)[0]

    def answer(self, embeddings, small, image_of, ids, lengths, prompts):
        """Low-resolution logits, a row a sentence; `prompts` of them for each row of `embeddings`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config["train_encoder"]):
            feature = self.beit3(small, image_of, ids, lengths)[0][:, 0]
        tokens = self.text_hidden_fcs[0](feature)
        return sam.decode(self.sam, embeddings, tokens.view(-1, prompts, 1, tokens.shape[-1])).float()

    def predict(self, photo, ids, lengths):
        side = self.config["sam"]["image_encoder"]["image_size"]
        canvas, area = place(photo, side, centred=False)
        small = square(photo.permute(2, 0, 1)[None] / 255, self.config["beit3"]["image_size"])
        image_of = torch.zeros(len(ids), dtype=torch.long, device=photo.device)
        low = self.answer(self.embed(canvas), small, image_of, ids, lengths, len(ids))
        logits = F.interpolate(low, (side, side), mode="bilinear", align_corners=False)
        return restore(logits, area, photo.shape[:2]) > self.config["threshold"]

    def loss(self, images, masks, ids, lengths):
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        small = square((images * std + mean) / 255, self.config["beit3"]["image_size"])
        image_of = torch.arange(len(images), device=images.device)
        low = self.answer(self.embed(images), small, image_of, ids, lengths, 1)
        logits = F.interpolate(low, images.shape[2:], mode="bilinear", align_corners=False)
        bce, overlap = losses(logits[:, 0], masks[:, 0])
        return self.config["bce_weight"] * bce + self.config["dice_weight"] * overlap
