"""The scripts of `examples/` do what their first lines say."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import saymask
from saymask import mask

SMALL = Path(__file__).parents[3] / "crates" / "models" / "small"
EXAMPLES = Path(__file__).parent.parent / "examples"


with_models = pytest.mark.skipif(not hasattr(saymask, "load"), reason="built without models")


def run_example(name, *args):
    command = [sys.executable, EXAMPLES / f"{name}.py", *args]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)


def test_evaluate(root, val, tmp_path):
    results = tmp_path / "results.json"
    records = [{"sent_id": s.sent_id, "segmentation": {"size": s.rle["size"], "counts": s.rle["counts"].decode()}} for s in val]
    results.write_text(json.dumps(records))
    done = run_example("evaluate", results, root, "refcoco", "unc", "val")
    assert done.returncode == 0, done.stderr
    assert f"{len(val)} expressions, 0 without a result" in done.stdout and "100.00%" in done.stdout


@with_models
def test_predict(val):
    done = run_example("predict", SMALL, val.images[0].path, "the red circle", "the star")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    expected = saymask.load()(val.images[0].path, ["the red circle", "the star"])
    for line, found in zip(lines, expected, strict=True):
        assert line["sentence"] == found.sentence and mask.area(line["segmentation"]) == found.area


@with_models
def test_view(val, tmp_path):
    if importlib.util.find_spec("supervision") is None:
        pytest.skip("supervision is not installed")
    out = tmp_path / "out.png"
    done = run_example("view", SMALL, val.images[0].path, out, "the red circle")
    assert done.returncode == 0 and out.stat().st_size > 0, done.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_without_arguments_they_say_how(name):
    done = run_example(name)
    assert done.returncode == 1 and (f"python {name}.py" in done.stderr or "pip install" in done.stderr)
