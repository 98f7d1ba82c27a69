"""What the methods share: attention, names, and a photograph's way in and a mask's way out."""

import re

import torch
import torch.nn.functional as F

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def attend(q, k, v, heads, hidden=None, kind="eager"):
    """Multi-head attention. q: [B, S, C]; k, v: [B, T, C]; hidden: [B, 1, 1, T], true where a key is not seen."""
    split = lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2)
    q, k, v = split(q), split(k), split(v)
    if kind == "sdpa":
        mask = None if hidden is None else ~hidden
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    else:
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        if hidden is not None:
            logits = logits.masked_fill(hidden, torch.finfo(logits.dtype).min)
        out = F.softmax(logits, dim=-1, dtype=torch.float32).to(v.dtype) @ v
    return out.transpose(1, 2).flatten(2)


def dice(logits, targets, smooth, scale):
    """Dice loss of each row. [N, pixels] -> [N]"""
    p = torch.sigmoid(logits)
    overlap, total = (p * targets).sum(1) / scale, (p + targets).sum(1) / scale
    return 1 - (2 * overlap + smooth) / (total + smooth)


def matches(pattern, name):
    """The patterns of `model.freeze`, `model.train` and `optim.groups`."""
    if "*" not in pattern:
        return name == pattern or name.startswith(pattern + ".")
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def place(photo, side, centred):
    """A photograph of 8 bits, [H, W, 3], on a normalised canvas [1, 3, side, side]; and where: (top, left, height, width)."""
    height, width = photo.shape[:2]
    scale = side / max(height, width)
    rounded = round if centred else lambda x: int(x + 0.5)
    new = rounded(height * scale), rounded(width * scale)
    top, left = ((side - new[0]) // 2, (side - new[1]) // 2) if centred else (0, 0)
    image = photo.permute(2, 0, 1)[None].float()
    image = F.interpolate(image, new, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v, device=photo.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    canvas = F.pad((image - mean) / std, (left, side - left - new[1], top, side - top - new[0]))
    return canvas, (top, left, *new)


def restore(logits, area, size):
    """Logits on the canvas to the photograph's size. [N, 1, side, side] -> [N, height, width]"""
    top, left, height, width = area
    cut = logits.float()[:, :, top : top + height, left : left + width]
    return F.interpolate(cut, size, mode="bilinear", align_corners=False)[:, 0]
