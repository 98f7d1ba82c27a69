"""`saymask.load`: runs, checkpoints, exported folders, weight files, the hub's cache and the hub."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import saymask

if not hasattr(saymask, "load"):
    pytest.skip("built without models", allow_module_level=True)

SENTENCES = ["the red circle", "the square on the left"]


def records(predictions):
    """Answers as `predict` writes them; scores in single precision."""
    return [
        (p.sentence, p.rle["size"], p.rle["counts"].decode(), p.box.tolist(), float(np.float32(p.score))) for p in predictions
    ]


def of_program(program, out, image, *args, **options):
    """Answers of `saymask predict`."""
    program("predict", image, *SENTENCES, "--out", out, *args, **options)
    report = json.loads((out / f"{image.stem}.json").read_text())
    return [
        (p["sentence"], p["segmentation"]["size"], p["segmentation"]["counts"], p["bbox"], float(np.float32(p["score"])))
        for p in report["predictions"]
    ]


@pytest.fixture(scope="session")
def path(val):
    return val.images[1].path


def test_masks_are_those_of_the_program(trained, program, path, tmp_path):
    """Of a run, of one of its checkpoints, of an exported folder, and of a weight file with its config."""
    (checkpoint,) = (trained.run / "checkpoints").iterdir()
    weights, config = trained.exported / "model.safetensors", trained.exported / "saymask.toml"
    vocabulary = "text.vocabulary=from-weights"
    for name, ours, theirs in [
        ("run", [trained.run], ["--run", trained.run]),
        ("checkpoint", [str(checkpoint)], ["--run", checkpoint]),
        ("folder", [trained.exported], ["--weights", trained.exported]),
        ("file", [weights, config], ["--weights", weights, "--config", config, "--set", vocabulary]),
    ]:
        model = saymask.load(*ours, set=[vocabulary] if name == "file" else [])
        assert model.method == trained.method and model.device == "cpu" and trained.method in repr(model)
        assert records(model(path, SENTENCES)) == of_program(program, tmp_path / name, path, *theirs), name


def test_the_small_model_is_the_programs_own(program, path, tmp_path):
    ours = records(saymask.load()(path, SENTENCES))
    assert ours == of_program(program, tmp_path / "out", path, cwd=tmp_path) and any(box != [0, 0, 0, 0] for _, _, _, box, _ in ours)


def test_the_small_model_is_a_folder_of_the_repository(path):
    folder = Path(__file__).parents[3] / "crates" / "models" / "small"
    assert records(saymask.load(folder)(path, SENTENCES)) == records(saymask.load()(path, SENTENCES))


def test_settings_change_the_model(path):
    areas = [saymask.load(set=[f"eval.threshold={t}"])(path, SENTENCES[0]).area for t in (0.01, 0.99)]
    assert areas[0] > areas[1]


def test_points_go_where_the_decoder_takes_them(trained, path):
    model = saymask.load(trained.run)
    embedding = model.embed(path)
    plain = embedding.ask(SENTENCES[0])
    assert model.takes_points == (trained.method != "risam") and plain.presence is None
    if model.takes_points:
        assert embedding.ask(SENTENCES[0], points=[(20, 30), (50, 10, 0)]).score != plain.score
    else:
        with pytest.raises(ValueError, match=r"^points: must be None: this method's decoder takes sentences alone"):
            embedding.ask(SENTENCES[0], points=[(20, 30)])
        with pytest.raises(ValueError, match=r"^box: must be None"):
            embedding.ask(SENTENCES, box=[(0, 0, 5, 5), None])


ASK = "import sys, saymask; print(saymask.load(sys.argv[1])(sys.argv[2], 'the red circle').rle['counts'])"


def asked_apart(source, image, **variables):
    """What a process of its own answers, for the hub's client looks at the environment once."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))} | variables
    return subprocess.run([sys.executable, "-c", ASK, source, image], capture_output=True, text=True, timeout=60, env=env)


def test_of_the_hubs_cache(trained, path, tmp_path):
    version = tmp_path / "hub" / "models--some--model" / "snapshots" / "abc"
    shutil.copytree(trained.exported, version)
    refs = tmp_path / "hub" / "models--some--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    done = asked_apart("hf:some/model", path, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert done.stdout == f"{saymask.load(trained.exported)(path, 'the red circle').rle['counts']}\n", done.stderr
    lacking = asked_apart("hf:no/such-model", path, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert "ValueError: hf:no/such-model: " in lacking.stderr and "HF_HUB_OFFLINE" in lacking.stderr


class Hub(http.server.BaseHTTPRequestHandler):
    """The hub's two answers that a download needs, over the files of `folder`."""

    folder: Path

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/api/models/some/model"):
            siblings = [{"rfilename": file.name} for file in self.folder.iterdir()]
            self.answer(200, json.dumps({"sha": "abc", "siblings": siblings}).encode(), {})
        elif self.path.startswith("/some/model/resolve/main/") and (self.folder / name).exists():
            body = (self.folder / name).read_bytes()
            begin, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            part = body[int(begin) : int(end) + 1 if end else None]
            span = {"Content-Range": f"bytes {begin}-{int(begin) + len(part) - 1}/{len(body)}"}
            self.answer(206, part, {"ETag": f'"{name}"', "X-Repo-Commit": "abc", **span})
        else:
            self.answer(404, b"", {})

    def answer(self, status, body, headers):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_of_the_hub(trained, path, tmp_path):
    handler = type("Handler", (Hub,), {"folder": trained.exported})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        done, lacking = (asked_apart(f"hf:{name}", path, **here) for name in ("some/model", "no/such-model"))
        server.shutdown()
    assert done.stdout == f"{saymask.load(trained.exported)(path, 'the red circle').rle['counts']}\n", done.stderr
    assert "ValueError: hf:no/such-model: " in lacking.stderr and "404" in lacking.stderr
    again = asked_apart("hf:some/model", path, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert again.stdout == done.stdout


@pytest.mark.parametrize(
    ("args", "options", "error", "words"),
    [
        (("nowhere",), {}, FileNotFoundError, "source: nowhere: no such folder or file"),
        (("some/model",), {}, FileNotFoundError, 'the Hugging Face hub is "hf:OWNER/REPO"'),
        ((7,), {}, TypeError, "source: must be a path or"),
        (("FILE",), {}, ValueError, "config: FILE is a weight file: pass its config"),
        (("FILE", "nowhere.toml"), {}, FileNotFoundError, "config: nowhere.toml: no such file"),
        (("FILE", 7), {}, TypeError, "config: must be a path or None, not int"),
        (("FILE", "FOLDER"), {}, FileNotFoundError, "config: FOLDER: no such file"),
        (("FILE", "FILE"), {}, ValueError, "FILE"),
        ((None, "FILE"), {}, ValueError, "source: is missing"),
        (("FOLDER",), {}, (FileNotFoundError, ValueError), "FOLDER"),
        ((), {"device": "cuda"}, ValueError, 'device: "cuda"'),
        ((), {"device": 7}, TypeError, "device: must be a str, not int"),
        ((), {"set": ["eval.treshold=0.4"]}, ValueError, "eval.treshold"),
        ((), {"set": ["eval.threshold=4"]}, ValueError, "eval.threshold"),
        ((), {"set": "eval.threshold=0.4"}, TypeError, "set: must be a list of str"),
    ],
)
def test_what_cannot_be_opened_is_named(args, options, error, words, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    named = {"FILE": str(tmp_path / "weights.safetensors"), "FOLDER": str(tmp_path)}
    for name, real in named.items():
        words = words.replace(name, real)
    with pytest.raises(error) as raised:
        saymask.load(*(named.get(arg, arg) for arg in args), **options)
    assert words in str(raised.value)


def test_an_open_or_a_closed_file_is_no_source(tmp_path):
    with open(tmp_path / "model.safetensors", "wb") as file:
        pass
    for argument in (file, open):
        with pytest.raises(TypeError, match="^source: must be a path"):
            saymask.load(argument)


def test_damaged_runs_are_refused(trained, tmp_path):
    shutil.copytree(trained.run, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").glob("*/*.bpk"):
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="run"):
        saymask.load(tmp_path / "run")
