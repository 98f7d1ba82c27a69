"""`saymask.load`: models of random weights, small enough to be made here."""

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import saymask
from saymask import mask

if not hasattr(saymask, "load"):
    pytest.skip("built without models", allow_module_level=True)

SENTENCES = ["the red circle", "the square on the left"]


@pytest.fixture(scope="session")
def model(run):
    return saymask.load(run)


@pytest.fixture
def image(val):
    return val[0].image


def same(a, b):
    return a.sentence == b.sentence and a.rle == b.rle and a.score == b.score


def test_one_sentence_and_several(model, image):
    one, several = model(image, SENTENCES[0]), model(image, SENTENCES)
    assert isinstance(one, saymask.Prediction) and [p.sentence for p in several] == SENTENCES
    assert same(one, several[0])
    assert model(image, []) == []


def test_what_comes_out(model, image):
    for found in model(image, SENTENCES):
        assert found.mask.shape == image.shape[:2] and found.mask.dtype == bool
        assert found.mask.sum() == found.area == mask.area(found.rle)
        np.testing.assert_array_equal(found.box, mask.toBbox(found.rle))
        assert 0 <= found.score <= 1 and found.presence is None
        assert same(pickle.loads(pickle.dumps(found)), found)


def test_every_way_to_hand_an_image_over(model, image, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    path = tmp_path / "image.png"
    pil.fromarray(image).save(path)
    expected = model(image, SENTENCES[0])
    for given in (path, str(path), pil.open(path), pil.fromarray(image).convert("RGBA"), image[::-1, ::-1][::-1, ::-1], np.asfortranarray(image)):
        assert same(model(given, SENTENCES[0]), expected)
    grey = image[:, :, 0]
    assert same(model(grey, SENTENCES[0]), model(np.repeat(grey[:, :, None], 3, axis=2), SENTENCES[0]))


def test_batches(model, val):
    images = [val.images[0].image, val.images[1].path]
    shared, own = model(images, SENTENCES), model(images, [SENTENCES, SENTENCES[:1]])
    assert [len(answers) for answers in shared] == [2, 2] and [len(answers) for answers in own] == [2, 1]
    assert same(own[1][0], shared[1][0]) and same(shared[0][1], model(images[0], SENTENCES[1]))
    assert [type(answer) for answer in model(images, "the star")] == [saymask.Prediction] * 2
    assert model([], SENTENCES) == []


def test_an_image_is_encoded_once(model, image):
    embedding = model.embed(image)
    assert embedding.size == image.shape[:2] and embedding.nbytes > 0
    assert all(same(a, b) for a, b in zip(embedding.ask(SENTENCES), model(image, SENTENCES)))


def test_points_change_the_answer(model, image):
    embedding = model.embed(image)
    assert model.takes_points
    plain = embedding.ask(SENTENCES[0])
    clicked = embedding.ask(SENTENCES[0], points=[(20, 30), (50, 10, 0)])
    assert same(embedding.ask(SENTENCES, points=[[(20, 30, 1), (50, 10, 0)], None])[0], clicked)
    assert same(embedding.ask(SENTENCES, points=[[(20, 30, 1), (50, 10, 0)], None])[1], embedding.ask(SENTENCES[1]))
    assert same(embedding.ask(SENTENCES[0], points=np.array([[20, 30, 1], [50, 10, 0]])), clicked)
    boxed = embedding.ask(SENTENCES[0], box=(5, 5, 30, 40))
    assert clicked.score != plain.score or clicked.rle != plain.rle
    assert boxed.score != plain.score or boxed.rle != plain.rle


def test_names(model):
    assert (model.device, model.method) == ("cpu", "dit") and "cpu" in repr(model)
    assert model.unread("the red circle") == ""
    assert model.unread("circle " * 200) != ""


def test_results_are_judged(model, val):
    records = [{"sent_id": s.sent_id, "mask": model(s.image, s.sentence)} for s in list(val)[:4]]
    few = saymask.datasets.open(val.root, "refcoco", split="val", limit=4)
    assert 0 <= saymask.evaluate(few, records, "dit")["protocols"]["dit"]["oiou"] <= 1


def test_masks_are_those_of_the_program(model, run, val, tmp_path):
    program = os.environ.get("SAYMASK_TEST_PROGRAM")
    if not program:
        pytest.skip("needs the program: check.py --all")
    path = val.images[1].path
    subprocess.run([program, "predict", path, *SENTENCES, "--run", run, "--out", tmp_path], check=True, capture_output=True)
    (report,) = (json.loads(file.read_text()) for file in tmp_path.glob("*.json"))
    for theirs, ours in zip(report["predictions"], model(path, SENTENCES), strict=True):
        assert theirs["segmentation"] == {"size": ours.rle["size"], "counts": ours.rle["counts"].decode()}
        assert theirs["bbox"] == ours.box.tolist() and np.float32(theirs["score"]) == np.float32(ours.score)


def test_threads(model, image):
    expected = model(image, SENTENCES[0])
    with ThreadPoolExecutor(4) as pool:
        assert all(same(found, expected) for found in pool.map(lambda _: model(image, SENTENCES[0]), range(8)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m, i: m(i, ""), ValueError, "sentences: is empty"),
        (lambda m, i: m(i, ["a", " "]), ValueError, "sentences[1]: is empty"),
        (lambda m, i: m(i, 7), TypeError, "sentences: must be a str"),
        (lambda m, i: m([i], [["a", 7]]), TypeError, "sentences[0][1]: must be a str"),
        (lambda m, i: m([i, i], [["a"]]), ValueError, "sentences: must be one list per image, 2"),
        (lambda m, i: m(7, "a"), TypeError, "image: must be a numpy array"),
        (lambda m, i: m(None, "a"), TypeError, "image: must be a numpy array"),
        (lambda m, i: m(i / 255, "a"), ValueError, "image: must be uint8"),
        (lambda m, i: m(i[:0], "a"), ValueError, "image"),
        (lambda m, i: m(i[0, 0], "a"), ValueError, "image: must be of shape"),
        (lambda m, i: m(i.transpose(2, 0, 1), "a"), ValueError, "channels come last"),
        (lambda m, i: m(np.dstack([i, i[:, :, :1]]), "a"), ValueError, "image: has 4 channels"),
        (lambda m, i: m("nowhere.png", "a"), ValueError, "nowhere.png"),
        (lambda m, i: m([i, "nowhere.png"], "a"), ValueError, "image[1]: nowhere.png"),
        (lambda m, i: m.embed(i).ask(), ValueError, "nothing is asked"),
        (lambda m, i: m.embed(i).ask("a", points=[(1, 2, 3)]), ValueError, "points[0]: label 3"),
        (lambda m, i: m.embed(i).ask("a", points=(1, 2)), ValueError, "points: must be a sequence of"),
        (lambda m, i: m.embed(i).ask("a", points=[(1,)]), ValueError, "points[0]: must be (x, y)"),
        (lambda m, i: m.embed(i).ask(["a", "b"], points=[[(1, 2)]]), ValueError, "points: must be a list with one entry"),
        (lambda m, i: m.embed(i).ask("a", box=(1, 2, 3)), ValueError, "box: must be (x0, y0, x1, y1)"),
    ],
)
def test_bad_input_names_its_argument(model, image, call, error, words):
    with pytest.raises(error) as raised:
        call(model, image)
    assert words in str(raised.value)


def test_a_closed_image_is_refused(model, image, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    pil.fromarray(image).save(tmp_path / "image.png")
    opened = pil.open(tmp_path / "image.png")
    opened.close()
    with pytest.raises(ValueError, match="image: "):
        model(opened, "a")


@pytest.mark.parametrize(
    ("args", "options", "error", "words"),
    [
        (("nowhere",), {}, (FileNotFoundError, ValueError), "nowhere"),
        ((7,), {}, TypeError, "source: must be a path"),
        (("hf:no/such-model",), {}, (FileNotFoundError, ValueError, OSError), "no/such-model"),
        (("x",), {"device": "cuda"}, ValueError, "device: \"cuda\""),
    ],
)
def test_what_cannot_be_opened_is_named(args, options, error, words):
    with pytest.raises(error) as raised:
        saymask.load(*args, **options)
    assert words in str(raised.value)


def test_a_weight_file_needs_its_config(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="config: "):
        saymask.load(tmp_path / "model.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_ends_a_long_call(run):
    script = """
        import sys, time, numpy as np, saymask
        model = saymask.load(sys.argv[1])
        images = [np.zeros((64, 64, 3), np.uint8)] * 100_000
        print("begun", flush=True)
        try:
            model(images, "the red circle")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(run)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "begun\n"
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(1)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=20)
    assert out == "interrupted\n"
