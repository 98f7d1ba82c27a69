"""`saymask.datasets`: lazy, picklable, usable from worker processes."""

import json
import multiprocessing
import pickle

import numpy as np
import pytest
import saymask
from saymask import datasets, mask


def test_samples_have_image_sentence_and_mask(val):
    assert len(val) > 0 and (val.name, val.split_by, val.split) == ("refcoco", "unc", "val")
    for sample in val:
        assert sample.image.shape == (*sample.size, 3) and sample.image.dtype == np.uint8
        assert sample.mask.shape == sample.size and sample.mask.dtype == bool
        assert sample.mask.sum() == mask.area(sample.rle) > 0
        assert sample.sentence and sample.raw and sample.ann_ids and sample.category
        x, y, w, h = sample.box
        assert 0 <= x and x + w <= sample.size[1] and 0 <= y and y + h <= sample.size[0]
    assert len({sample.sent_id for sample in val}) == len(val)


def test_images_have_their_samples(val):
    again = [sample.sent_id for image in val.images for sample in image.samples]
    assert sorted(again) == sorted(sample.sent_id for sample in val)
    for image in val.images:
        assert all(sample.image_id == image.id and sample.image_path == image.path for sample in image.samples)
    np.testing.assert_array_equal(val.images[0].image, val.images[0].samples[0].image)


def test_indices(val):
    assert val[-1].sent_id == val[len(val) - 1].sent_id
    for index in (len(val), -len(val) - 1):
        with pytest.raises(IndexError):
            val[index]


def test_a_limit_takes_the_first(root, val):
    few = datasets.open(root, "refcoco", split="val", limit=3)
    assert [s.sent_id for s in few] == [s.sent_id for s in val][:3]
    assert len(pickle.loads(pickle.dumps(few))) == 3


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (("nowhere", "refcoco"), FileNotFoundError, "nowhere/refcoco"),
        (("ROOT", "cocoa"), ValueError, "refcocog"),
        (("ROOT", "refcoco", "umd"), FileNotFoundError, "split_by can be"),
        (("ROOT", "refcoco", "unc", "test9"), ValueError, "test9"),
        ((7, "refcoco"), TypeError, "root: must be a path, not int"),
        (("ROOT", 7), TypeError, "name: must be a str, not int"),
        (("ROOT", "refcoco", 7), TypeError, "split_by: must be a str or None, not int"),
        (("ROOT", "refcoco", "unc", None), TypeError, "split: must be a str, not NoneType"),
    ],
)
def test_what_is_not_there_is_named(root, args, error, words):
    with pytest.raises(error) as raised:
        datasets.open(*(root if arg == "ROOT" else arg for arg in args))
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("limit", "error", "words"),
    [
        ("all", TypeError, "limit: must be a whole number from 0 on, or None, not str"),
        (1.5, TypeError, "limit: must be a whole number from 0 on, or None, not float"),
        (-1, ValueError, "limit: must be a whole number from 0 on, or None, not -1"),
    ],
)
def test_a_limit_is_a_number(root, limit, error, words):
    with pytest.raises(error, match=words):
        datasets.open(root, "refcoco", limit=limit)
    assert len(datasets.open(root, "refcoco", limit=np.int64(2))) == 2


def test_an_image_that_goes_is_named_when_it_is_read(tmp_path):
    datasets.generate(tmp_path, images=4, size=64)
    train = datasets.open(tmp_path, "refcoco", split="train")
    train[0].image_path.unlink()
    with pytest.raises(FileNotFoundError) as raised:
        train[0].image
    assert str(train[0].image_path) in str(raised.value)


def pixels(sample):
    return int(sample[0][sample[1]].mask.sum())


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers(val, start):
    with multiprocessing.get_context(start).Pool(2) as pool:
        got = pool.map_async(pixels, [(val, i) for i in range(8)]).get(timeout=60)
    assert got == [int(val[i].mask.sum()) for i in range(8)]


def opened_in_child(root):
    return len(saymask.datasets.open(root, "refcoco", split="val"))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(root, val):
    """`open` works on rayon's threads, which a fork does not take along."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(opened_in_child, [root] * 4).get(timeout=60) == [len(val)] * 4


def test_pictures_of_ones_own(val, tmp_path):
    """COCO's JSON with images beside it, as annotation tools export it."""
    sample = val[0]
    (tmp_path / "a.jpg").write_bytes(sample.image_path.read_bytes())
    height, width = sample.size
    segmentation = {"size": [height, width], "counts": sample.rle["counts"].decode()}
    x, y, w, h = map(float, sample.box)
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": segmentation, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
    annotations = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": height, "width": width}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "circle"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    (own,) = datasets.open(tmp_path, "coco", split="train")
    assert own.sentence == "circle" and own.image_path.name == "a.jpg"
    np.testing.assert_array_equal(own.mask, sample.mask)


def test_photographs_of_ones_own_are_upright(val, tmp_path):
    """A camera that was held on its side says so in EXIF; masks were drawn on what people see."""
    pil = pytest.importorskip("PIL.Image")
    stored = pil.new("RGB", (40, 20), (200, 0, 0))
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "a.jpg", exif=exif)
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 15, 1, 15, 30]], "bbox": [1, 1, 14, 29], "area": 203}
    annotations = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 20}],
        "annotations": [annotation | {"iscrowd": 0}],
        "categories": [{"id": 1, "name": "circle"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    (own,) = datasets.open(tmp_path, "coco", split="val")
    assert own.size == own.mask.shape == own.image.shape[:2] == (40, 20)
