"""Deep Instruction Tuning: SAM whose image encoder attends over text slots and image tokens, every block over all of them."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertModel

from . import sam
from .common import place, restore


class Net(nn.Module):
    """DIT behind its text encoder."""

    def __init__(self, config, attention):
        super().__init__()
        if config["variant"] != "layer_wise" or config["attention"] != "global":
            raise SystemExit("DIT in PyTorch has variant layer_wise with attention global only")
        sizes = config["sam"]["image_encoder"]
        width, text = sizes["embed_dim"], config["text_dim"]
        self.kind, self.heads = attention, sizes["heads"]
        self.sam = sam.model(config["sam"], attention)
        self.prob_text = nn.Linear(text, width) if config["text_transform"] else None
        self.probs = nn.ModuleList(nn.Linear(width, width) for _ in range(sizes["depth"]))
        for linear in self.probs:
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.text_proj = nn.Linear(text, sizes["out_channels"])
        self.dropout = nn.Dropout(config["dropout"])
        grid = config["input_size"] // sizes["patch_size"]
        steps = torch.arange(grid)
        self.register_buffer("distance", steps[:, None] - steps[None, :] + grid - 1, persistent=False)

    def positions(self, attention, q, height, width):
        """SAM's relative positions among image tokens, from unscaled queries. q: [B, heads, h w, D] -> [B, heads, h w, h w]"""

        def table(rows):
            size = 2 * len(self.distance) - 1
            if len(rows) != size:
                rows = F.interpolate(rows.T[None], size, mode="linear", align_corners=False)[0].T
            return rows[self.distance]

        q = q.unflatten(2, (height, width))
        down = torch.einsum("bnhwc,hkc->bnhwk", q, table(attention.rel_pos_h))
        across = torch.einsum("bnhwc,wkc->bnhwk", q, table(attention.rel_pos_w))
        return (down[..., :, None] + across[..., None, :]).flatten(4).flatten(2, 3)

    def attend(self, attention, x, slots, height, width):
        """x: [B, slots + h w, C] -> the same"""
        q, k, v = attention.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.positions(attention, q[:, :, slots:], height, width)
        if self.kind == "sdpa":
            bias = F.pad(bias, (slots, 0, slots, 0)).to(q.dtype)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            logits = (q * attention.scale) @ k.transpose(-2, -1)
            logits[:, :, slots:, slots:] += bias
            out = F.softmax(logits, dim=-1, dtype=torch.float32).to(v.dtype) @ v
        return attention.proj(out.transpose(1, 2).flatten(2))

    def encode(self, images, text):
        vision = self.sam.vision_encoder
        x = sam.patches(vision, images)
        size = x.shape
        x = x.flatten(1, 2)
        text = text if self.prob_text is None else self.prob_text(text)
        slots = text.shape[1]
        for block, prob in zip(vision.layers, self.probs):
            x = torch.cat([self.dropout(prob(text)).to(x.dtype), x], 1)
            x = x + self.attend(block.attn, block.layer_norm1(x), slots, size[1], size[2])
            x = (x + block.mlp(block.layer_norm2(x)))[:, slots:]
        return vision.neck(x.view(size))

    def forward(self, images, text):
        """images: [B, 3, S, S]; text: [B, L, text_dim] -> low-resolution logits and those of the input's size"""
        embedding = self.encode(images, text)
        low = sam.decode(self.sam, embedding, self.text_proj(text)[:, None]).float()
        return low, F.interpolate(low, images.shape[2:], mode="bilinear", align_corners=True)


class Dit(nn.Module):
    """DIT with BERT."""

    compiled = ["logits"]
    pads = "max"

    def __init__(self, config, attention):
        super().__init__()
        if config["text_encoder"] != "bert":
            raise SystemExit("DIT in PyTorch reads with BERT only")
        self.config, bert = config, config["bert"]
        self.net = Net(config, attention)
        sizes = BertConfig(
            vocab_size=bert["vocab_size"],
            hidden_size=bert["hidden"],
            num_hidden_layers=bert["layers"],
            num_attention_heads=bert["heads"],
            intermediate_size=bert["ffn"],
            max_position_embeddings=bert["max_positions"],
            type_vocab_size=bert["token_types"],
            hidden_dropout_prob=bert["dropout"],
            attention_probs_dropout_prob=bert["dropout"],
            layer_norm_eps=bert["layer_norm_eps"],
        )
        self.bert = BertModel._from_config(sizes, attn_implementation=attention)

    @staticmethod
    def official(name):
        if name.startswith("bert."):
            return f"lang_encoder.{name}"
        name = name.removeprefix("net.")
        if name.startswith("sam."):
            name = sam.official(name.removeprefix("sam."))
            return name and name.replace("image_encoder.", "visual_encoder.", 1)
        return f"visual_encoder.{name}" if name.startswith("prob") else name

    def trains(self, name):
        return True

    def read(self, ids, lengths):
        """The released layer's features. [Q, L] -> [Q, L, text_dim]; layers behind it are not computed"""
        x = self.bert.embeddings(input_ids=ids)
        hidden = torch.arange(ids.shape[1], device=ids.device) >= lengths[:, None]
        mask = torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill(hidden, torch.finfo(x.dtype).min)
        for layer in self.bert.encoder.layer[: self.config["bert"]["output_layer"] or None]:
            x = layer(x, attention_mask=mask[:, None, None])[0]
        return x

    def logits(self, images, ids, lengths):
        return self.net(images, self.read(ids, lengths))[1]

    def predict(self, photo, ids, lengths):
        canvas, area = place(photo, self.config["input_size"], centred=True)
        logits = self.logits(canvas.expand(len(ids), -1, -1, -1), ids, lengths)
        threshold = self.config["threshold"]
        return restore(logits, area, photo.shape[:2]).sigmoid() > threshold

    def loss(self, images, masks, ids, lengths):
        return F.binary_cross_entropy_with_logits(self.logits(images, ids, lengths).float(), masks)
