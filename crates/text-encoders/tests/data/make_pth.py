"""A BEiT-3 of two narrow layers as torch.save writes it: tensors under `model`, with the heads of pretraining.

    python make_pth.py

Writes the pickle and the archive by hand, so it needs no torch. Values are formula tensors of seed "pth".
"""

import collections
import math
import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np


def uniform(seed, name, count):
    h = 0xCBF29CE484222325
    for byte in f"{seed}:{name}".encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / float(1 << 23) - 1.0


def weight(name, shape):
    count = math.prod(shape)
    if len(shape) <= 1:
        center, amp = (1.0 if name.endswith("weight") else 0.0), 0.1
    else:
        center, amp = 0.0, math.sqrt(3.0 / (count / shape[0]))
    return (center + amp * uniform("pth", name, count)).astype("<f4").reshape(shape)


def shapes(dim=8, ffn=16, vocab=12, places=4, positions=8, patch=4):
    out = {"beit3.text_embed.weight": (vocab, dim)}
    out |= {"beit3.vision_embed.cls_token": (1, 1, dim), "beit3.vision_embed.mask_token": (1, 1, dim)}
    out |= {"beit3.vision_embed.proj.weight": (dim, 3, patch, patch), "beit3.vision_embed.proj.bias": (dim,)}
    for way, rows in (("A", places + 3), ("B", positions)):
        out[f"beit3.encoder.embed_positions.{way}.weight"] = (rows, dim)

        def both(name, weight_shape):
            out[name + ".weight"] = weight_shape
            out[name + ".bias"] = weight_shape[:1]

        for i in range(2):
            layer = f"beit3.encoder.layers.{i}"
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                both(f"{layer}.self_attn.{part}.{way}", (dim, dim))
            for part in ("self_attn.inner_attn_ln", "self_attn_layer_norm", "final_layer_norm"):
                both(f"{layer}.{part}.{way}", (dim,))
            both(f"{layer}.ffn.{way}.fc1", (ffn, dim))
            both(f"{layer}.ffn.{way}.fc2", (dim, ffn))
            both(f"{layer}.ffn.{way}.ffn_layernorm", (ffn,))
        both(f"beit3.encoder.layer_norm.{way}", (dim,))
    out |= {"mlm_head.weight": (vocab, dim), "mlm_head.bias": (vocab,), "mim_head.weight": (6, dim), "mim_head.bias": (6,)}
    return out


class Storage:
    pass


class Rebuilt:
    def __init__(self, key, shape):
        self.key, self.shape = key, shape

    def __reduce__(self):
        strides = [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]
        return rebuild, (Reference(self.key, math.prod(self.shape)), 0, self.shape, tuple(strides), False, collections.OrderedDict())


class Reference:
    def __init__(self, key, count):
        self.key, self.count = key, count


def rebuild():
    pass


def pretend(module, name, thing):
    sys.modules.setdefault(module, types.ModuleType(module))
    setattr(sys.modules[module], name, thing)
    thing.__module__, thing.__qualname__, thing.__name__ = module, name, name


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, Reference):
            return ("storage", Storage, thing.key, "cpu", thing.count)
        return None


if __name__ == "__main__":
    pretend("torch", "FloatStorage", Storage)
    pretend("torch._utils", "_rebuild_tensor_v2", rebuild)
    tensors = shapes()
    state = collections.OrderedDict((name, Rebuilt(str(i), shape)) for i, (name, shape) in enumerate(tensors.items()))
    path = Path(__file__).parent / "beit3-tiny.pth"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("beit3/data.pkl", "w") as file:
            Pickler(file, protocol=2).dump({"model": state})
        for i, (name, shape) in enumerate(tensors.items()):
            archive.writestr(f"beit3/data/{i}", weight(name, shape).tobytes())
        archive.writestr("beit3/version", "3\n")
    print(path, path.stat().st_size, "bytes,", len(tensors), "tensors")
