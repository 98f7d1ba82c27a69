"""RISAM: three taps of SAM's encoder, mutual-aware attention with the words, and a decoder with one query."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from . import sam
from .common import attend, dice, place, restore

GAMMA = 2.0
COVERED = dict(enhancement="fe", interaction="full", decoder="own", single_linear=False, vlt_head=False, baseline=False)
COVERED |= dict(token_to_image=False, language_in_decoder=True, words_exclude_special=False)


def sine(length, width, device):
    """Interleaved sine and cosine, base 10000. -> [1, length, width]"""
    angle = torch.arange(length, device=device)[:, None] / 10000 ** (torch.arange(0, width, 2, device=device) / width)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[None, :, :width]


class Cba(nn.Module):
    """3 x 3 convolution, batch norm, GELU."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(2 * width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return F.gelu(self.norm(self.conv(x)))


class Enhancement(nn.Module):
    """Three taps become one map (eq. 1 and 2)."""

    def __init__(self, c, tap):
        super().__init__()
        width = c["width"]
        mlp = lambda i: nn.Sequential(nn.Linear(i, width), nn.GELU(), nn.Linear(width, width))
        self.tap_norms = nn.ModuleList(nn.LayerNorm(tap) for _ in range(3 if c["tap_layer_norm"] else 0))
        self.mlp1, self.mlp2, self.mlp3, self.mlp4 = mlp(tap), mlp(tap), mlp(width), mlp(tap)
        self.cba1, self.cba2 = Cba(width), Cba(width)

    def forward(self, taps):
        """three [B, h, w, C] -> [B, width, h, w]"""
        taps = [norm(tap) for norm, tap in zip(self.tap_norms, taps)] or taps
        first = lambda x: x.permute(0, 3, 1, 2)
        one, two, three = (first(mlp(tap)) for mlp, tap in zip([self.mlp1, self.mlp2, self.mlp4], taps))
        joined = self.cba1(torch.cat([one, two], 1))
        return self.cba2(torch.cat([first(self.mlp3(joined.permute(0, 2, 3, 1))), three], 1))


class Mutual(nn.Module):
    """Mutual-aware attention (eq. 3 to 5)."""

    def __init__(self, c, words):
        super().__init__()
        width = c["width"]
        self.w_v, self.w_l = nn.Linear(width, width, bias=False), nn.Linear(words, width, bias=False)
        self.norm_v, self.norm_l = nn.LayerNorm(width), nn.LayerNorm(width)
        self.masked, self.tau = c["relevance_mask"], math.log(c["tau"] / (1 - c["tau"]))
        self.regions = c["language_softmax"] == "regions"

    def forward(self, visual, words, padding):
        """visual: [B, N, C]; words: [B, L, C]; padding: [B, L]"""
        z_v, z_l = self.w_v(visual), self.w_l(words)
        with torch.autocast(z_v.device.type, enabled=False):
            scores = z_v.float() @ z_l.float().transpose(1, 2) / z_v.shape[-1] ** 0.5
        removed = padding[:, None].expand_as(scores)
        if self.masked:
            weak = scores < self.tau
            kept = (~(weak | removed)).any(2, keepdim=True)
            removed = removed | (weak & kept)
        scores = scores.masked_fill(removed, -1e30)
        a = scores.softmax(2).to(z_v.dtype)
        back = scores.softmax(1).to(z_v.dtype) if self.regions else a
        return self.norm_v(a @ z_l + z_v), self.norm_l(back.transpose(1, 2) @ z_v + z_l)


class Attention(nn.Module):
    def __init__(self, c, kind):
        super().__init__()
        self.heads, self.kind = c["heads"], kind
        self.q, self.k, self.v, self.out = (nn.Linear(c["width"], c["width"]) for _ in range(4))
        for linear in (self.q, self.k, self.v, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, q, k, v, hidden=None):
        return self.out(attend(self.q(q), self.k(k), self.v(v), self.heads, hidden, self.kind))


class Block(nn.Module):
    """Regions among themselves, tokens among themselves, regions look at tokens (eq. 6 to 9)."""

    def __init__(self, c, kind):
        super().__init__()
        width, self.norm, self.positions = c["width"], c["norm"], c["linguistic_position"]
        self.self_v, self.self_c, self.cross = (Attention(c, kind) for _ in range(3))
        self.ffn_in = nn.Linear(width, c["ffn"]) if c["ffn"] else None
        self.ffn_out = nn.Linear(c["ffn"], width) if c["ffn"] else None
        count = 0 if self.norm == "none" else 3 + bool(c["ffn"])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(count))

    def residual(self, index, x, layer):
        if self.norm == "pre":
            return layer(self.norms[index](x)) + x
        x = layer(x) + x
        return self.norms[index](x) if self.norm == "post" else x

    def forward(self, visual, tokens, hidden, at_regions, at_tokens):
        placed = lambda x, at: x if at is None else x + at.to(x.dtype)
        seen = lambda x: self.self_v(placed(x, at_regions), placed(x, at_regions), x)
        said = lambda x: self.self_c(placed(x, at_tokens), placed(x, at_tokens), x, hidden)
        visual, tokens = self.residual(0, visual, seen), self.residual(1, tokens, said)
        visual = self.residual(2, visual, lambda x: self.cross(placed(x, at_regions), tokens, tokens, hidden))
        if self.ffn_in is not None:
            visual = self.residual(3, visual, lambda x: self.ffn_out(F.relu(self.ffn_in(x))))
        return visual, tokens


class Net(nn.Module):
    """RISAM behind its encoders."""

    def __init__(self, c, tap, words, kind):
        super().__init__()
        for key, value in COVERED.items():
            if c.get(key, value) != value:
                raise SystemExit(f"RISAM in PyTorch has {key} = {value} only, not {c[key]}")
        if c["linguistic_position"] == "learned":
            raise SystemExit("RISAM in PyTorch has no learned positions of words")
        width, (first, second) = c["width"], c["up_channels"]
        self.c = c
        self.fe = Enhancement(c, tap)
        self.ma = nn.ModuleList(Mutual(c, words if i == 0 else width) for i in range(c["interaction_blocks"]))
        self.query = nn.Parameter(torch.randn(1, 1, width))
        self.decoder = nn.ModuleList(Block(c, kind) for _ in range(c["decoder_blocks"]))
        self.up1, self.up1_norm = nn.ConvTranspose2d(width, first, 2, 2), nn.BatchNorm2d(first)
        self.up2, self.up2_norm = nn.ConvTranspose2d(first, second, 2, 2), nn.BatchNorm2d(second)
        self.mask_mlp = nn.ModuleList(nn.Linear(i, o) for i, o in [(width, width), (width, width), (width, second)])
        dense = c["visual_position"] == "sam_dense"
        self.register_buffer("frequencies", torch.randn(2, width // 2) if dense else None)

    def forward(self, taps, image_of, text, lengths):
        """taps: three [B, h, w, C]; image_of: Q numbers below B; text: [Q, L, words]; lengths: [Q] -> [Q, 1, 4h, 4w]"""
        c = self.c
        map = self.fe(taps)
        height, width = map.shape[2:]
        visual = map[image_of].flatten(2).transpose(1, 2)
        rows, length = text.shape[:2]
        padding = torch.arange(length, device=text.device) >= lengths[:, None]
        words = text
        if c["linguistic_position"] == "sine":
            words = text + sine(length, text.shape[2], text.device).to(text.dtype)
        for block in self.ma:
            visual, words = block(visual, words, padding)
        tokens = torch.cat([self.query.expand(rows, -1, -1).to(words.dtype), words], 1)
        hidden = F.pad(padding, (1, 0))[:, None, None]
        at_regions = at_tokens = None
        if self.frequencies is not None:
            at_regions = sam.frequencies(self.frequencies, height, width).flatten(2).transpose(1, 2)
        if c["linguistic_position"] == "decoder":
            at_tokens = F.pad(sine(length, c["width"], text.device), (0, 0, 1, 0))
        for block in self.decoder:
            visual, tokens = block(visual, tokens, hidden, at_regions, at_tokens)
        map = self.up1_norm(self.up1(visual.transpose(1, 2).unflatten(2, (height, width))))
        map = map if c["upsampling"] == "plain" else F.gelu(map)
        map = self.up2_norm(self.up2(map))
        map = F.gelu(map) if c["upsampling"] == "both" else map
        query = tokens[:, 0]
        for index, linear in enumerate(self.mask_mlp):
            query = linear(F.relu(query) if index else query)
        return (query[:, None] @ map.flatten(2)).unflatten(2, map.shape[2:]).float()


def losses(logits, targets, valid, alpha=None, smooth=1.0):
    """Focal and dice loss over the image's area. all: [N, 1, H, W] -> two numbers"""
    logits, valid = logits.flatten(1), valid.flatten(1)
    targets = (targets.flatten(1) > 0.5).float()
    signed = logits * (2 * targets - 1)
    pixels = -(torch.sigmoid(-signed) ** GAMMA * F.logsigmoid(signed))
    if alpha is not None:
        pixels = pixels * (targets * (2 * alpha - 1) + 1 - alpha)
    focal = ((pixels * valid).sum(1) / valid.sum(1).clamp(min=1)).mean()
    logits = logits.masked_fill(valid < 0.5, -1e4)
    return focal, dice(logits, targets * valid, smooth, 1.0).mean()


class Risam(nn.Module):
    """RISAM with SAM's image encoder and CLIP's text tower."""

    compiled = ["encode", "read", "answer"]
    pads = "max"

    def __init__(self, config, attention):
        super().__init__()
        self.config, clip = config, config["clip"]
        sizes = config["sam"]["image_encoder"]
        self.image_encoder = sam.encoder(sizes, attention)
        text = CLIPTextConfig(
            vocab_size=clip["vocab_size"],
            hidden_size=clip["width"],
            num_hidden_layers=clip["layers"],
            num_attention_heads=clip["heads"],
            intermediate_size=clip["ffn"],
            max_position_embeddings=clip["max_positions"],
            projection_dim=clip["projection_dim"],
            hidden_act=clip["activation"],
            layer_norm_eps=clip["layer_norm_eps"],
            eos_token_id=2,  # the largest id ends a text
        )
        self.text_encoder = CLIPTextModelWithProjection._from_config(text, attn_implementation=attention)
        words = clip["projection_dim"] if clip["project_tokens"] else clip["width"]
        self.net = Net(config, sizes["embed_dim"], words, attention)

    @staticmethod
    def official(name):
        if name.startswith("image_encoder."):
            return sam.official("vision_encoder." + name.removeprefix("image_encoder."))
        if name == "net.frequencies":
            return "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
        return name.removeprefix("net.")

    def trains(self, name):
        config = self.config
        frozen = name.startswith("image_encoder.") and not config["train_image_encoder"]
        return not (frozen or name.startswith("text_encoder.") and config["text_frozen"])

    def encode(self, images):
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config["train_image_encoder"]):
            return sam.taps(self.image_encoder, images, self.config["taps"])

    def read(self, ids):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config["text_frozen"]):
            tokens = self.text_encoder.text_model(input_ids=ids).last_hidden_state
            return self.text_encoder.text_projection(tokens) if self.config["clip"]["project_tokens"] else tokens

    def answer(self, taps, image_of, text, lengths):
        return self.net(taps, image_of, text, lengths)

    def predict(self, photo, ids, lengths):
        side, threshold = self.config["input_size"], self.config["threshold"]
        canvas, area = place(photo, side, centred=False)
        image_of = torch.zeros(len(ids), dtype=torch.long, device=photo.device)
        low = self.answer(self.encode(canvas), image_of, self.read(ids), lengths)
        logits = F.interpolate(low, (side, side), mode="bilinear", align_corners=False)
        return restore(logits, area, photo.shape[:2]) > math.log(threshold / (1 - threshold))

    def loss(self, images, masks, ids, lengths):
        image_of = torch.arange(len(images), device=images.device)
        low = self.answer(self.encode(images), image_of, self.read(ids), lengths)
        logits = F.interpolate(low, images.shape[2:], mode="bilinear", align_corners=False)
        valid = torch.ones_like(masks)
        focal, overlap = losses(logits, masks, valid, self.config["focal_alpha"], self.config["dice_smooth"])
        return 0.5 * focal + 0.5 * overlap
