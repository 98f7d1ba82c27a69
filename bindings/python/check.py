#!/usr/bin/env python3
"""Builds the Python package into a virtual environment of its own and tests it there.

check.py            masks, data sets and the referee, built for development: what `cargo xtask test` runs
check.py --all      with the models, and mypy on the stubs
check.py --release  as --all, but the wheel as it is published: its size, and the time of its import
check.py --bench    saymask.mask beside pycocotools, from a release build of the masks; writes docs/python.md
"""

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGES = ["maturin>=1.9,<2", "numpy>=1.22", "pillow", "pycocotools>=2.0.7", "pytest", "mypy"]
MOST_BYTES = 25 << 20
MOST_SECONDS = 0.3
# A model whose answers mean nothing, trained within seconds.
SMALL = """
    data.image_size=32 data.synth.images=24 data.synth.size=64 schedule.warmup_steps=2
    model.dit.text_dim=16 model.dit.sam.decoder_depth=1 model.dit.sam.decoder_heads=2 model.dit.sam.decoder_mlp_dim=16
    model.dit.sam.image_encoder.image_size=32 model.dit.sam.image_encoder.embed_dim=16 model.dit.sam.image_encoder.depth=2
    model.dit.sam.image_encoder.heads=2 model.dit.sam.image_encoder.out_channels=16
    model.dit.sam.image_encoder.global_blocks=[1] model.dit.bert.hidden=16 model.dit.bert.heads=2 model.dit.bert.ffn=32
    train.batch_size=4 train.steps=12 train.eval_every=6 train.save_every=6 eval.limit=6 eval.figures=0
""".split()
# Exit code where the environment cannot be made; `cargo xtask test` calls that skipped.
NO_ENVIRONMENT = 77


def run(*command, **options):
    print("+", *command, file=sys.stderr, flush=True)
    return subprocess.run([str(part) for part in command], check=True, cwd=HERE, **options)


def environment(target):
    """The interpreter of a virtual environment with PACKAGES, made once per list and version of Python."""
    key = hashlib.sha256(f"{sys.version} {PACKAGES}".encode()).hexdigest()[:12]
    folder = target / "python" / key
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "complete").exists():
        try:
            venv.create(folder, with_pip=True, clear=True)
            run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES)
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"no virtual environment with {', '.join(PACKAGES)}: {error}", file=sys.stderr)
            sys.exit(NO_ENVIRONMENT)
        (folder / "complete").touch()
    return python


def install(python, target, options):
    """Builds the wheel and installs it."""
    wheels = target / "python" / "wheels"
    for old in wheels.glob("*.whl"):
        old.unlink()
    build = [python, "-m", "maturin", "build", "--quiet", "--locked", "--interpreter", python, "--out", wheels]
    run(*build, *options, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    (wheel,) = wheels.glob("*.whl")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--force-reinstall", "--no-deps", wheel)
    return wheel


def trained(target):
    """A run of the smallest model, trained by the program itself."""
    folder = target / "python" / "run"
    cargo = {"env": {**os.environ, "CARGO_TARGET_DIR": str(target)}, "stdout": subprocess.DEVNULL}
    run("cargo", "build", "--quiet", "--package", "saymask", **cargo)
    if not (folder / "small" / "curves.svg").exists():
        keys = [f"run.dir={folder}", "run.name=small", f"data.root={folder / 'data'}", *SMALL]
        run("cargo", "run", "--quiet", "--package", "saymask", "--", "train", *keys, **cargo)
    return folder / "small"


def measure(python, wheel):
    """Fails where the wheel or its import is heavier than promised."""
    size = wheel.stat().st_size
    line = "import time; t = time.perf_counter(); import saymask; print(time.perf_counter() - t)"
    seconds = min(float(run(python, "-c", line, capture_output=True, text=True).stdout) for _ in range(5))
    print(f"{wheel.name}: {size / 2**20:.1f} MiB, imported in {seconds:.3f} s")
    if size > MOST_BYTES or seconds > MOST_SECONDS:
        sys.exit(f"more than {MOST_BYTES >> 20} MiB or {MOST_SECONDS} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    for name in ("--all", "--release", "--bench"):
        what.add_argument(name, action="store_true")
    args = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    python = environment(target)
    models = args.all or args.release
    profile = ["--release"] if args.release or args.bench else ["--profile", "dev"]
    wheel = install(python, target, [*profile, *([] if models else ["--no-default-features"])])
    if args.bench:
        run(python, "bench.py", "--write", ROOT / "docs" / "python.md")
        return
    if args.release:
        measure(python, wheel)
    environment_of_tests = dict(os.environ)
    if models:
        program = target / "debug" / ("saymask.exe" if os.name == "nt" else "saymask")
        environment_of_tests |= {"SAYMASK_TEST_RUN": str(trained(target)), "SAYMASK_TEST_PROGRAM": str(program)}
    run(python, "-m", "pytest", "-q", "tests", env=environment_of_tests)
    if models:
        run(python, "-m", "mypy", "tests/typed.py")
        run(python, "-m", "mypy.stubtest", "saymask")


if __name__ == "__main__":
    main()
