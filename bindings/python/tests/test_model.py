"""Models: images and sentences in, masks out. The small model of the package answers."""

import pickle

import numpy as np
import pytest
import saymask
from saymask import mask

if not hasattr(saymask, "load"):
    pytest.skip("built without models", allow_module_level=True)

SENTENCES = ["the red circle", "the square on the left"]


@pytest.fixture(scope="session")
def model():
    return saymask.load()


@pytest.fixture
def image(val):
    return val[0].image


def same(a, b):
    return a.sentence == b.sentence and a.rle == b.rle and a.score == b.score


def test_one_sentence_and_several(model, image):
    one, several = model(image, SENTENCES[0]), model(image, SENTENCES)
    assert isinstance(one, saymask.Prediction) and [p.sentence for p in several] == SENTENCES
    assert same(one, several[0]) and same(model(image, tuple(SENTENCES))[1], several[1])
    assert model(image, []) == []


def test_what_comes_out(model, image):
    for found in model(image, SENTENCES):
        assert found.mask.shape == image.shape[:2] and found.mask.dtype == bool
        assert found.mask.sum() == found.area == mask.area(found.rle)
        np.testing.assert_array_equal(found.box, mask.toBbox(found.rle))
        assert found.box.dtype == np.float64 and type(found.rle["counts"]) is bytes
        assert type(found.score) is float and 0 <= found.score <= 1 and found.presence is None
        assert same(pickle.loads(pickle.dumps(found)), found)


def test_the_small_model_finds_drawn_shapes(model, val):
    """Not noise: most of what is asked for is found."""
    scores = saymask.evaluate(val, [{"sent_id": s.sent_id, "mask": model(s.image, s.sentence)} for s in val], "saymask")
    assert scores["missing"] == 0 and scores["protocols"]["saymask"]["miou"] > 0.4


def test_every_way_to_hand_an_image_over(model, image, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    path = tmp_path / "image.png"
    pil.fromarray(image).save(path)
    read_only = image.copy()
    read_only.flags.writeable = False
    backwards = np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1]
    spread = np.repeat(image, 2, axis=1)[:, ::2]
    assert backwards.strides[0] < 0 and not spread.flags.contiguous
    expected = model(image, SENTENCES[0])
    assert expected.area > 0
    for given in (path, str(path), pil.open(path), pil.fromarray(image).convert("RGBA"), backwards, spread, np.asfortranarray(image), read_only):
        assert same(model(given, SENTENCES[0]), expected)
    grey = image[:, :, 0]
    twice = model(np.repeat(grey[:, :, None], 3, axis=2), SENTENCES[0])
    assert all(same(model(given, SENTENCES[0]), twice) for given in (grey, grey[:, :, None], pil.fromarray(grey)))


def test_files_are_turned_upright(model, image, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    turned = pil.fromarray(np.rot90(image))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    assert same(model(tmp_path / "turned.png", SENTENCES[0]), model(image, SENTENCES[0]))


def test_batches(model, val):
    images = [val.images[0].image, val.images[1].path]
    shared, own = model(images, SENTENCES), model(tuple(images), [SENTENCES, SENTENCES[:1]])
    assert [len(answers) for answers in shared] == [2, 2] and [len(answers) for answers in own] == [2, 1]
    assert same(own[1][0], shared[1][0]) and same(shared[0][1], model(images[0], SENTENCES[1]))
    assert not same(shared[0][0], shared[1][0])
    assert [type(answer) for answer in model(images, "the star")] == [saymask.Prediction] * 2
    assert model([], SENTENCES) == []


def test_an_image_is_encoded_once(model, image):
    embedding = model.embed(image)
    assert embedding.size == image.shape[:2] and embedding.nbytes > 0
    assert all(same(a, b) for a, b in zip(embedding.ask(SENTENCES), model(image, SENTENCES), strict=True))


def test_points_change_the_answer(model, image):
    embedding = model.embed(image)
    assert model.takes_points
    plain = embedding.ask(SENTENCES[0])
    clicked = embedding.ask(SENTENCES[0], points=[(20, 30), (50, 10, 0)])
    assert same(embedding.ask(SENTENCES, points=[[(20, 30, 1), (50, 10, 0)], None])[0], clicked)
    assert same(embedding.ask(SENTENCES, points=[[(20, 30, 1), (50, 10, 0)], None])[1], embedding.ask(SENTENCES[1]))
    assert same(embedding.ask(SENTENCES[0], points=np.array([[20, 30, 1], [50, 10, 0]])), clicked)
    boxed = embedding.ask(SENTENCES[0], box=(5, 5, 30, 40))
    assert same(embedding.ask(SENTENCES[0], box=np.array([5, 5, 30, 40])), boxed)
    assert len({plain.score, clicked.score, boxed.score}) == 3
    alone = embedding.ask(points=[(20, 30)])
    assert alone.sentence is None and alone.mask.shape == image.shape[:2]


def test_names(model):
    assert (model.device, model.method) == ("cpu", "dit") and "small model" in repr(model)
    assert model.unread("the red circle") == ""
    assert model.unread("circle " * 200) != ""


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m, i: m(i, ""), ValueError, "sentences: is empty"),
        (lambda m, i: m(i, ["a", " "]), ValueError, "sentences[1]: is empty"),
        (lambda m, i: m(i, 7), TypeError, "sentences: must be a str"),
        (lambda m, i: m(i, None), ValueError, "sentences: is None"),
        (lambda m, i: m([i], [["a", 7]]), TypeError, "sentences[0][1]: must be a str"),
        (lambda m, i: m([i, i], [["a"], ["b", ""]]), ValueError, "sentences[1][1]: is empty"),
        (lambda m, i: m([i, i], [["a"]]), ValueError, "sentences: must be one list per image, 2, not 1"),
        (lambda m, i: m(7, "a"), TypeError, "image: must be a numpy array"),
        (lambda m, i: m(None, "a"), TypeError, "image: must be a numpy array"),
        (lambda m, i: m(b"a.png", "a"), TypeError, "image: must be a numpy array"),
        (lambda m, i: m(i / 255, "a"), ValueError, "image: must be uint8, levels from 0 to 255, not float64"),
        (lambda m, i: m(i > 9, "a"), ValueError, "image: must be uint8, levels from 0 to 255, not bool"),
        (lambda m, i: m([i, i.astype(int)], "a"), ValueError, "image[1]: must be uint8, levels from 0 to 255, not int64"),
        (lambda m, i: m(i[:0], "a"), ValueError, "image: "),
        (lambda m, i: m(i[:, :0, 0], "a"), ValueError, "image: "),
        (lambda m, i: m.embed(i[:0]), ValueError, "image: "),
        (lambda m, i: m(i[0, 0], "a"), ValueError, "image: must be of shape"),
        (lambda m, i: m(i[None], "a"), ValueError, "image: has 4 dimensions: a batch is a list"),
        (lambda m, i: m(i.transpose(2, 0, 1), "a"), ValueError, "image: must be of shape (height, width, 3) or (height, width); channels"),
        (lambda m, i: m(np.dstack([i, i[:, :, :1]]), "a"), ValueError, "image: has 4 channels"),
        (lambda m, i: m("nowhere.png", "a"), FileNotFoundError, "image: nowhere.png: "),
        (lambda m, i: m.embed("nowhere.png"), FileNotFoundError, "image: nowhere.png: "),
        (lambda m, i: m([i, "nowhere.png"], "a"), FileNotFoundError, "image[1]: nowhere.png: "),
        (lambda m, i: m(__file__, "a"), ValueError, f"image: {__file__}: "),
        (lambda m, i: m.embed(i).ask(), ValueError, "nothing is asked"),
        (lambda m, i: m.embed(i).ask(""), ValueError, "sentences: is empty"),
        (lambda m, i: m.embed(i).ask("a", points=[(1, 2, 3)]), ValueError, "points[0]: label 3"),
        (lambda m, i: m.embed(i).ask("a", points=(1, 2)), ValueError, "points: must be a sequence of"),
        (lambda m, i: m.embed(i).ask("a", points=7), TypeError, "points: must be a sequence of"),
        (lambda m, i: m.embed(i).ask("a", points=[(1,)]), ValueError, "points[0]: must be (x, y)"),
        (lambda m, i: m.embed(i).ask("a", points=[("x", "y")]), ValueError, "points[0]: must hold numbers"),
        (lambda m, i: m.embed(i).ask("a", points=[(1, float("nan"))]), ValueError, "points: point [1.0, NaN]: coordinates must be"),
        (lambda m, i: m.embed(i).ask(["a", "b"], points=[[(1, 2)]]), ValueError, "points: must be a list with one entry"),
        (lambda m, i: m.embed(i).ask("a", box=(1, 2, 3)), ValueError, "box: must be (x0, y0, x1, y1), not 3 numbers"),
        (lambda m, i: m.embed(i).ask("a", box=(30, 9, 5, 5)), ValueError, "box: box [30.0, 9.0, 5.0, 5.0]: is (x0, y0, x1, y1)"),
        (lambda m, i: m.embed(i).ask(["a"], box=[(0, 0, float("inf"), 1)]), ValueError, "box[0]: box [0.0, 0.0, inf, 1.0]: coordinates"),
    ],
)
def test_bad_input_names_its_argument(model, image, call, error, words):
    with pytest.raises(error) as raised:
        call(model, image)
    assert words in str(raised.value)


def test_a_closed_or_truncated_image_is_refused(model, image, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    path = tmp_path / "image.png"
    pil.fromarray(image).save(path)
    closed = pil.open(path)
    closed.close()
    path.write_bytes(path.read_bytes()[:-200])
    with pil.open(path) as truncated:
        for given in (closed, truncated, path):
            with pytest.raises((ValueError, OSError), match="^image: "):
                model(given, "a")
    with open(path, "rb") as file:
        pass
    with pytest.raises(TypeError, match="^image: must be a numpy array .* not BufferedReader"):
        model(file, "a")
