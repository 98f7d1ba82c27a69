"""BEiT-3: image and text tokens meet in attention and have experts A and B everywhere else. Module names are the published ones."""

import torch
import torch.nn.functional as F
from torch import nn

from .common import attend

OFFSET = 2  # rows of the position tables that are never used


class Multiway(nn.Module):
    """Expert A for image tokens, B for text tokens."""

    def __init__(self, make):
        super().__init__()
        self.A, self.B = make(), make()

    def forward(self, pair):
        return self.A(pair[0]), self.B(pair[1])


class SelfAttention(nn.Module):
    def __init__(self, c, kind):
        super().__init__()
        dim = c["dim"]
        self.heads, self.kind = c["heads"], kind
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Multiway(lambda: nn.Linear(dim, dim)) for _ in range(4))
        self.inner_attn_ln = Multiway(lambda: nn.LayerNorm(dim, c["layer_norm_eps"]))

    def forward(self, pair, hidden):
        q, k, v = (torch.cat(p(pair), 1) for p in (self.q_proj, self.k_proj, self.v_proj))
        out = attend(q, k, v, self.heads, hidden, self.kind)
        return self.out_proj(self.inner_attn_ln(out.split([pair[0].shape[1], pair[1].shape[1]], 1)))


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(c["dim"], c["ffn"]), nn.Linear(c["ffn"], c["dim"])
        self.ffn_layernorm = nn.LayerNorm(c["ffn"], c["layer_norm_eps"])

    def forward(self, x):
        return self.fc2(self.ffn_layernorm(F.gelu(self.fc1(x))))


class Layer(nn.Module):
    def __init__(self, c, kind):
        super().__init__()
        norm = lambda: nn.LayerNorm(c["dim"], c["layer_norm_eps"])
        self.self_attn = SelfAttention(c, kind)
        self.self_attn_layer_norm, self.final_layer_norm = Multiway(norm), Multiway(norm)
        self.ffn = Multiway(lambda: FeedForward(c))

    def forward(self, pair, hidden):
        add = lambda a, b: (a[0] + b[0], a[1] + b[1])
        pair = add(pair, self.self_attn(self.self_attn_layer_norm(pair), hidden))
        return add(pair, self.ffn(self.final_layer_norm(pair)))


class VisionEmbed(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.cls_token, self.mask_token = (nn.Parameter(torch.zeros(1, 1, c["dim"])) for _ in range(2))
        self.proj = nn.Conv2d(3, c["dim"], c["patch_size"], c["patch_size"])


class Encoder(nn.Module):
    def __init__(self, c, kind):
        super().__init__()
        patches = (c["image_size"] // c["patch_size"]) ** 2
        rows = iter([patches + 1 + OFFSET, c["max_positions"]])
        self.embed_positions = Multiway(lambda: nn.Embedding(next(rows), c["dim"]))
        self.layers = nn.ModuleList(Layer(c, kind) for _ in range(c["layers"]))
        self.layer_norm = Multiway(lambda: nn.LayerNorm(c["dim"], c["layer_norm_eps"]))


class Beit3(nn.Module):
    """Joint passes over an image and a text."""

    def __init__(self, config, kind):
        super().__init__()
        if config.get("fused_layers") is not None:
            raise SystemExit("BEiT-3 in PyTorch fuses image and text in all layers only")
        self.text_embed = nn.Embedding(config["vocab_size"], config["dim"])
        self.vision_embed = VisionEmbed(config)
        self.encoder = Encoder(config, kind)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding)):
                nn.init.normal_(module.weight, std=config["init_std"])

    def forward(self, images, image_of, ids, lengths):
        """images: [B, 3, s, s]; image_of: Q numbers below B; ids: [Q, T]; lengths: [Q] -> [Q, 1 + N, D], [Q, T, D]"""
        table = self.encoder.embed_positions
        seen = self.vision_embed.proj(images).flatten(2).transpose(1, 2)
        seen = torch.cat([self.vision_embed.cls_token.expand(len(seen), -1, -1).to(seen.dtype), seen], 1)
        seen = (seen + table.A.weight[OFFSET : OFFSET + seen.shape[1]])[image_of]
        padding = torch.arange(ids.shape[1], device=ids.device) >= lengths[:, None]
        text = self.text_embed(ids) + table.B.weight[OFFSET : OFFSET + ids.shape[1]]
        text = text.masked_fill(padding[..., None], 0)
        hidden = F.pad(padding, (seen.shape[1], 0))[:, None, None]
        pair = seen, text
        for layer in self.encoder.layers:
            pair = layer(pair, hidden)
        return self.encoder.layer_norm(pair)
