"""A case: what `cargo xtask bench methods --describe` prints. The method in PyTorch, its parameters, and one training step."""

import json
import sys

import torch

from .common import matches
from .dit import Dit
from .evf import Evf
from .risam import Risam

METHODS = {"dit": Dit, "evf": Evf, "risam": Risam}


def read(path):
    """The case in a file, or on the standard input for "-"."""
    return json.load(sys.stdin) if path == "-" else json.load(open(path))


def official(model):
    """Every tensor of a weight file by its official name: parameters, position frequencies, running statistics."""
    named = [*model.named_parameters(), *model.named_buffers()]
    named = [(model.official(name), tensor) for name, tensor in named if tensor.is_floating_point()]
    return {name: tensor for name, tensor in named if name is not None}


def build(case, attention, device):
    """The model with random weights, frozen as the config says; and its parameters, all and trained."""
    with torch.device(device):
        model = METHODS[case["method"]](case["model"], attention)
    model = model.to(device)
    listed = lambda patterns, name: any(matches(p, name) for p in patterns)
    trained = 0
    for name, parameter in model.named_parameters():
        name = model.official(name)
        kept = not listed(case["freeze"], name) or listed(case["train"], name)
        parameter.requires_grad_(kept and model.trains(name))
        trained += parameter.numel() * parameter.requires_grad
    return model, [sum(t.numel() for t in official(model).values()), trained]


def texts(case, model, count, device):
    """Token ids of `count` sentences, as our tokenizer gives them, padded as the method pads: [count, L]; and lengths."""
    rows = [i % len(case["ids"]) for i in range(count)]
    lengths = [case["lengths"][i] for i in rows]
    width = max(lengths) if model.pads == "longest" else len(case["ids"][0])
    ids = [case["ids"][i][:width] for i in rows]
    return torch.tensor(ids, device=device), torch.tensor(lengths, device=device)


class Training:
    """Optimiser and moving average of a config."""

    def __init__(self, case, model, mixed):
        self.model, self.mixed, self.clip = model, mixed, case["optim"]["grad_clip"]
        optim = case["optim"]
        groups = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                name = model.official(name)
                slot = next((i for i, g in enumerate(optim["groups"]) if matches(g["pattern"], name)), None)
                groups.setdefault(slot, []).append(parameter)
        settings = []
        for slot, parameters in groups.items():
            group = {} if slot is None else optim["groups"][slot]
            decay = group.get("weight_decay", optim["weight_decay"])
            settings.append(dict(params=parameters, lr=optim["lr"] * group.get("lr_scale", 1.0), weight_decay=decay))
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optim["name"]]
        self.optimizer = kind(settings, betas=tuple(optim["betas"]), eps=optim["eps"])
        self.parameters = [p for group in settings for p in group["params"]]
        self.decay = case["ema"]["decay"] if case["ema"]["enabled"] else None
        if self.decay is not None:
            self.average = [p.detach().clone() for p in self.parameters]

    def step(self, images, masks, ids, lengths):
        """Forward, loss, backward, clipping by the global norm, optimiser, moving average. -> the loss"""
        with self.mixed():
            loss = self.model.loss(images, masks, ids, lengths)
        loss.backward()
        if self.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.decay is not None:
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - self.decay)
        return loss.item()
