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


def program(target):
    """The program, built for development: models from Python have to answer as it does."""
    run("cargo", "build", "--quiet", "--locked", "--package", "saymask", env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    return target / "debug" / ("saymask.exe" if os.name == "nt" else "saymask")


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
        environment_of_tests["SAYMASK_TEST_PROGRAM"] = str(program(target))
    run(python, "-m", "pytest", "-q", "tests", env=environment_of_tests)
    if models:
        run(python, "-m", "mypy", "tests/typed.py")
        run(python, "-m", "mypy.stubtest", "saymask")


if __name__ == "__main__":
    main()
