"""The models against our golden files: weights and inputs by the formula of tests/goldens, outputs of another implementation."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch

from . import beit3, dit, evf, risam, sam

BOUND = 1e-4  # of an output's largest value where that exceeds 1, as in tests/goldens/README.md
GOLDENS = Path(__file__).parents[2] / "tests" / "goldens"


class Golden:
    """A golden file: metadata, outputs, and inputs by the formula."""

    def __init__(self, path):
        sys.path.insert(0, str(GOLDENS))
        import formula

        data = Path(path).read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        self.formula, self.meta = formula, header.pop("__metadata__")
        body = data[8 + size :]
        self.outputs = {
            name: torch.frombuffer(bytearray(body[slice(*at["data_offsets"])]), dtype=torch.float32).view(at["shape"])
            for name, at in header.items()
        }
        self.worst = []

    def json(self, key):
        return json.loads(self.meta.get(key, "{}"))

    def input(self, name):
        shape, center, amp = self.json("inputs")[name]
        value = torch.from_numpy(self.formula.tensor(self.meta["seed"], name, shape, center, amp))
        threshold = self.json("binarise").get(name)
        return value if threshold is None else (value > threshold).float()

    def fill(self, module, official, expected):
        """Weights by the formula, under official names."""
        state, count = {}, 0
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            key = official(name)
            if key is None or not tensor.is_floating_point():
                continue
            shape, seed = tuple(tensor.shape), self.meta["seed"]
            if key.endswith("running_var"):
                value = self.formula.tensor(seed, key, shape, 1.0, 0.1)
            else:
                value = self.formula.weight(seed, key, shape)
            state[name] = torch.from_numpy(value)
            count += tensor.numel() * (not key.endswith(("running_mean", "running_var")))
        missing, unexpected = module.load_state_dict(state, strict=False)
        assert not unexpected, unexpected
        if expected is not None and count != int(expected):
            raise SystemExit(f"{count} parameters instead of {expected}")
        return module.eval()

    def compare(self, name, got, thin=1):
        want = self.outputs[name].flatten()
        got = got.detach().float().flatten()[::thin]
        bound = BOUND * max(1.0, want.abs().max().item())
        worst = (got - want).abs().max().item() if got.shape == want.shape else float("nan")
        self.worst.append(worst <= bound)
        print(f"{name}: {worst:.2e} of {bound:.2e}{'' if worst <= bound else ', WRONG'}")

    def thin(self, name):
        return next((k for p, k in self.json("thin").items() if name.endswith(p.removeprefix("*"))), 1)


def check_dit(golden, attention):
    image, text, mask = (golden.input(f"in.{n}") for n in ("image", "text", "mask"))
    for case in ["layer_wise", "layer_wise_vith"]:
        c = golden.json("cases")[case]
        sizes = dict(image_size=c["img"], patch_size=c["patch"], embed_dim=c["embed"], depth=c["depth"], heads=c["heads"])
        sizes |= dict(mlp_ratio=c["mlp_ratio"], window_size=c["win"], global_blocks=c["glob"], out_channels=c["out_chans"])
        whole = dict(image_encoder=sizes, mask_in_channels=16, decoder_depth=c["decoder_depth"], decoder_heads=8, decoder_mlp_dim=2048)
        config = dict(variant="layer_wise", attention="global", sam=whole, input_size=c["input"], text_dim=c["text_dim"])
        net = dit.Net(config | dict(text_transform=case.endswith("vith"), dropout=0.1), attention)
        golden.fill(net, lambda name: dit.Dit.official(f"net.{name}"), c["parameters"])
        net.sam.shared_image_embedding = net.sam.prompt_encoder.shared_embedding
        embedding, (low, logits) = net.encode(image, text), net(image, text)
        golden.compare(f"{case}.image_embedding", embedding, golden.thin("x.image_embedding"))
        golden.compare(f"{case}.low_res_masks", low)
        golden.compare(f"{case}.logits", logits, golden.thin("x.logits"))
        golden.compare(f"{case}.loss", torch.nn.functional.binary_cross_entropy_with_logits(logits, mask))


def check_evf(golden, attention):
    for size in ["tiny", "base", "large"]:
        c = golden.json(f"beit3_{size}")
        config = dict(vocab_size=c.get("vocab", 64010), dim=c["dim"], layers=c["layers"], heads=c["heads"])
        config |= dict(ffn=c.get("ffn", 4 * c["dim"]), image_size=c.get("img_size", 224), patch_size=c.get("patch", 16))
        config |= dict(max_positions=1024, layer_norm_eps=1e-5, init_std=0.02)
        model = golden.fill(beit3.Beit3(config, attention), lambda name: f"beit3.{name}", c["parameters"])
        ids = torch.tensor(c["token_ids"])
        lengths = (ids != golden.json("beit3_tiny")["pad_id"]).sum(1)
        image = golden.input("in.image" if size == "tiny" else "in.image224")
        seen, said = model(image, torch.arange(len(ids)), ids, lengths)
        joint = torch.cat([seen, said], 1)
        golden.compare(f"beit3_{size}.joint", joint, golden.json("thin").get(f"beit3_{size}.joint", 1))
    bce, dice = evf.losses(golden.input("in.logits"), golden.input("in.target"))
    golden.compare("loss.bce", bce)
    golden.compare("loss.dice", dice)
    small = (evf.square(golden.input("in.photo"), 224) + 1) / 2
    thin = golden.json("thin")["resize_bicubic_no_antialias"]
    golden.compare("resize_bicubic_no_antialias", small, thin)


def check_risam(golden, attention):
    for case, c in golden.json("cases").items():
        config = dict(width=c["width"], heads=c["heads"], decoder_blocks=c["blocks"], interaction_blocks=c["ma"], tau=c["tau"])
        config |= dict(up_channels=c["up"], tap_layer_norm=False, relevance_mask=True, language_softmax="words", norm="none", ffn=0)
        config |= dict(linguistic_position="none", visual_position="none", upsampling="plain")
        net = golden.fill(risam.Net(config, c["encoder"], c["text"], attention), lambda name: name, c["parameters"])
        taps = [golden.input(f"in.{case}.tap{i}") for i in (1, 2, 3)]
        text, mask = golden.input(f"in.{case}.text"), golden.input(f"in.{case}.mask")
        logits = net(taps, torch.arange(len(text)), text, torch.tensor(c["lengths"]))
        golden.compare(f"{case}.feature_enhancement", net.fe(taps), c["thin"].get("feature_enhancement", 1))
        golden.compare(f"{case}.logits", logits)
        focal, dice = risam.losses(logits, mask, torch.ones_like(mask))
        golden.compare(f"{case}.loss.total", 0.5 * focal + 0.5 * dice)


def check_sam(golden, attention):
    c = golden.json("config")
    sizes = dict(image_size=c.get("img", 1024), patch_size=16, embed_dim=c["embed"], depth=c["depth"], heads=c["heads"])
    sizes |= dict(mlp_ratio=4.0, out_channels=256, window_size=c.get("win", 14), global_blocks=c["glob"])
    whole = dict(image_encoder=sizes, mask_in_channels=16, decoder_depth=2, decoder_heads=8, decoder_mlp_dim=2048)
    model = golden.fill(sam.model(whole, attention), sam.official, golden.meta["parameters"])
    model.shared_image_embedding = model.prompt_encoder.shared_embedding
    embedding = model.vision_encoder(golden.input("in.image"))[0]
    golden.compare("image_embedding", embedding, golden.thin("image_embedding"))
    low = sam.decode(model, embedding, torch.zeros(1, 1, 0, 256))
    golden.compare("none.single.low_res_masks", low, golden.thin("x.low_res_masks"))


CHECKS = {"dit": check_dit, "evf": check_evf, "risam": check_risam, "sam": check_sam}


def check(path, attention):
    """Fails where an output is not the golden file's."""
    golden = Golden(path)
    with torch.inference_mode():
        CHECKS[golden.meta["kind"]](golden, attention)
    if not all(golden.worst):
        raise SystemExit(f"{path}: {golden.worst.count(False)} of {len(golden.worst)} outputs are wrong")
