"""A generated data set, and small models that the program has trained where check.py has built it."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import saymask

ENCODER = """image_encoder.image_size=32 image_encoder.embed_dim=16 image_encoder.depth=3 image_encoder.heads=2
    image_encoder.out_channels=16 image_encoder.global_blocks=[1,2]"""
DECODER = "decoder_depth=1 decoder_heads=2 decoder_mlp_dim=16"
RUN = """data.image_size=32 data.synth.images=24 data.synth.size=64 schedule.warmup_steps=2 train.batch_size=4 train.steps=4
    train.eval_every=4 train.save_every=4 eval.limit=6 eval.figures=0"""
# Sizes of models that answer in milliseconds; what they answer means nothing.
SIZES = {
    "dit": {"dit": "text_dim=16", "dit.bert": "hidden=16 heads=2 ffn=32", "dit.sam": f"{ENCODER} {DECODER}"},
    "evf": {"evf.beit3": "dim=16 heads=2 ffn=32 image_size=16", "evf.sam": f"{ENCODER} {DECODER}"},
    "risam": {
        "risam": "width=16 heads=2 up_channels=[8,4] taps=[0,1,2]",
        "risam.clip": "width=16 heads=2 ffn=32 projection_dim=16",
        "risam.sam": ENCODER,
    },
}


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    saymask.datasets.generate(folder, images=16, size=64)
    return folder


@pytest.fixture(scope="session")
def val(root):
    return saymask.datasets.open(root, "refcoco", split_by="unc", split="val")


@dataclass
class Trained:
    """A run, and the folder that `export --hub` makes of it."""

    method: str
    run: Path
    exported: Path


@pytest.fixture(scope="session")
def program():
    """Runs the program and gives its output."""
    path = os.environ.get("SAYMASK_TEST_PROGRAM")
    if not path:
        pytest.skip("needs the program: check.py --all")

    def call(*args, **options):
        done = subprocess.run([path, *map(str, args)], capture_output=True, text=True, timeout=300, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.fixture(scope="session", params=SIZES)
def trained(request, program, tmp_path_factory):
    method, folder = request.param, tmp_path_factory.mktemp(request.param)
    sizes = [f"model.{table}.{size}" for table, sizes in SIZES[method].items() for size in sizes.split()]
    program("train", "--method", method, f"run.dir={folder}", "run.name=run", f"data.root={folder / 'data'}", *RUN.split(), *sizes)
    program("export", "--hub", folder / "exported", "--run", folder / "run")
    return Trained(method, folder / "run", folder / "exported")
