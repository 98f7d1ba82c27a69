"""`saymask.mask`: types, edge cases and bad input."""

import concurrent.futures
import multiprocessing

import numpy as np
import pytest
from saymask import mask

SQUARE = np.zeros((10, 12), np.uint8)
SQUARE[2:5, 3:8] = 1
RLE = mask.encode(SQUARE)


def test_types_are_those_of_pycocotools():
    rle = mask.encode(np.asfortranarray(SQUARE))
    assert type(rle) is dict and list(rle) == ["size", "counts"]
    assert type(rle["size"]) is list and type(rle["counts"]) is bytes
    decoded = mask.decode(rle)
    assert decoded.dtype == np.uint8 and decoded.flags.f_contiguous and (decoded == SQUARE).all()
    assert mask.decode([rle, rle]).shape == (10, 12, 2)
    assert type(mask.area(rle)) is np.uint32 and mask.area(rle) == 15
    assert mask.area([rle]).dtype == np.uint32
    assert mask.toBbox(rle).tolist() == [3, 2, 5, 3] and mask.toBbox(rle).dtype == np.float64
    assert mask.toBbox([rle, rle]).shape == (2, 4)
    overlaps = mask.iou([rle, rle], [rle], [0])
    assert overlaps.shape == (2, 1) and overlaps.dtype == np.float64 and (overlaps == 1).all()
    assert mask.iou([rle, rle], [rle, rle, rle], [0, 0, 1]).flags.f_contiguous


@pytest.mark.parametrize(
    "array",
    [
        SQUARE,
        np.asfortranarray(SQUARE),
        SQUARE.astype(bool),
        SQUARE * 255,
        SQUARE[::-1][::-1],
        np.ascontiguousarray(SQUARE[::-1, ::-1])[::-1, ::-1],
        np.repeat(SQUARE, 2, axis=1)[:, ::2],
        np.repeat(SQUARE[:, :, None], 3, axis=2)[:, :, 1],
    ],
)
def test_every_order_and_stride_is_read(array):
    assert mask.encode(array) == mask.encode(np.asfortranarray(SQUARE))
    assert mask.encode(array[:, :, None]) == [mask.encode(array)]


def test_read_only_arrays_are_read():
    array = SQUARE.copy()
    array.flags.writeable = False
    assert mask.encode(array) == mask.encode(SQUARE)


def test_nothing_in_nothing_out():
    assert mask.encode(np.zeros((3, 4, 0), np.uint8)) == []
    assert mask.area([]).shape == (0,) and mask.area([]).dtype == np.uint32
    assert mask.toBbox([]).shape == (0, 4)
    assert mask.decode([]).shape == (0, 0, 0)
    assert mask.iou([], [], []) == [] and mask.iou([RLE], [], []) == [] and mask.iou([], [RLE], [0]) == []
    assert mask.merge([]) == {"size": [0, 0], "counts": b""}
    empty = mask.encode(np.zeros((3, 4), np.uint8))
    assert mask.area(empty) == 0 and mask.toBbox(empty).tolist() == [0, 0, 0, 0]
    assert mask.iou([empty], [empty], [0]).tolist() == [[0.0]]


def test_crowds_are_taken_over_the_detection():
    left, all_ = np.zeros((4, 8), np.uint8), np.ones((4, 8), np.uint8)
    left[:, :2] = 1
    dt, gt = [mask.encode(left)], [mask.encode(all_)] * 2
    assert mask.iou(dt, gt, [0, 1]).tolist() == [[0.25, 1.0]]
    assert mask.iou(dt, gt, np.array([False, True])).tolist() == [[0.25, 1.0]]
    boxes = [[0, 0, 2, 4]], [[0, 0, 8, 4], [0, 0, 8, 4]]
    assert mask.iou(*boxes, [0, 1]).tolist() == [[0.25, 1.0]]


def test_uncompressed_run_lengths_work_everywhere():
    raw = {"size": [3, 4], "counts": [2, 4, 6]}
    rle = mask.frPyObjects(raw, 3, 4)
    assert mask.frPyObjects([raw], 99, 99) == [rle]
    assert mask.frPyObjects({"size": [3, 4], "counts": np.array([2, 4, 6])}, 3, 4) == rle
    assert (mask.decode(raw) == mask.decode(rle)).all()
    assert mask.area(raw) == 4
    text = {"size": (3, 4), "counts": rle["counts"].decode()}
    assert mask.merge([text, raw], intersect=True) == rle


def test_boxes_and_polygons_as_floats():
    box, polygon = [1.25, 0.5, 2.5, 2.0], [1.25, 0.5, 1.25, 2.5, 3.75, 2.5, 3.75, 0.5]
    rle = mask.frPyObjects(np.array([box]), 5, 6)
    assert rle == mask.frPyObjects([polygon], 5, 6) == mask.frPyObjects([box], 5, 6)
    assert rle == [mask.frPyObjects(box, 5, 6)] == [mask.frPyObjects(polygon, 5, 6)]
    assert rle == mask.frPyObjects([np.array(polygon)], 5, 6) == mask.frPyObjects(np.array([box], np.float32), 5, 6)
    lines = mask.frPyObjects([polygon, [1, 1], [1, 1, 4, 4]], 5, 6)
    assert lines[0] == rle[0] and mask.area(lines).tolist()[1:] == [0, 0]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: mask.encode([[1]]), TypeError, "bimask: must be a numpy array of shape (height, width)"),
        (lambda: mask.encode(np.ones((3, 4))), ValueError, "bimask: must be uint8 or bool, not float64"),
        (lambda: mask.encode(np.ones(3, np.uint8)), ValueError, "bimask: must be of shape (height, width)"),
        (lambda: mask.encode(np.ones((0, 4), np.uint8)), ValueError, "bimask: mask size 0 x 4"),
        (lambda: mask.encode(np.ones((4, 0, 2), np.uint8)), ValueError, "bimask"),
        (lambda: mask.decode("x"), TypeError, "rleObjs: must be a dict"),
        (lambda: mask.decode([RLE, 7]), TypeError, "rleObjs[1]: must be a dict"),
        (lambda: mask.decode({"size": [3, 4]}), ValueError, "rleObjs: has no `counts`"),
        (lambda: mask.decode({"counts": b"0"}), ValueError, "rleObjs: has no `size`"),
        (lambda: mask.decode({"size": [3], "counts": b"0"}), ValueError, "`size` must be [height, width]"),
        (lambda: mask.decode({"size": [3, -4], "counts": b"0"}), ValueError, "`size` must be [height, width]"),
        (lambda: mask.decode({"size": [3, 4], "counts": b"5"}), ValueError, "runs add up to 5 pixels"),
        (lambda: mask.decode({"size": [3, 4], "counts": b"5\n"}), ValueError, "byte 10 at offset 1"),
        (lambda: mask.decode({"size": [3, 4], "counts": [1.5]}), TypeError, "`counts` must be"),
        (lambda: mask.decode({"size": [3, 4], "counts": None}), TypeError, "`counts` must be"),
        (lambda: mask.decode([RLE, {"size": [1, 1], "counts": b"1"}]), ValueError, "rleObjs[1]: is 1 x 1"),
        (lambda: mask.merge(RLE), TypeError, "rleObjs: must be a list"),
        (lambda: mask.merge([RLE, {"size": [1, 1], "counts": b"1"}]), ValueError, "masks differ in size"),
        (lambda: mask.iou([RLE], [RLE], []), ValueError, "pyiscrowd: must have one value per gt, 1"),
        (lambda: mask.iou([RLE], [[0, 0, 1, 1]], [0]), ValueError, "gt: must be masks"),
        (lambda: mask.iou(RLE, [RLE], [0]), TypeError, "dt: must be a list of masks"),
        (lambda: mask.iou(np.ones((2, 5)), [[0, 0, 1, 1]], [0]), ValueError, "dt: an array holds boxes"),
        (lambda: mask.iou([[0, 0, 1]], [[0, 0, 1, 1]], [0]), ValueError, "dt[0]: must be [x, y, width, height]"),
        (lambda: mask.frPyObjects([], 3, 4), ValueError, "pyobj: is empty"),
        (lambda: mask.frPyObjects("x", 3, 4), TypeError, "pyobj: must be polygons"),
        (lambda: mask.frPyObjects([[0, 0]], 3, 4), ValueError, "pyobj[0]: polygon 0 has 2 numbers"),
        (lambda: mask.frPyObjects([[0, 0, 1, 1], [0, 0, 1, 1, 2, 2]], 3, 4), ValueError, "pyobj[1]: must be a box"),
        (lambda: mask.frPyObjects([[0, 0, float("nan"), 1, 2, 2]], 3, 4), ValueError, "pyobj[0]"),
        (lambda: mask.frPyObjects([[0, 0, "a", 1, 2, 2]], 3, 4), ValueError, "pyobj[0]: must hold numbers"),
        (lambda: mask.frPyObjects([[0, 0, 1, 1, 2, 2]], 0, 4), ValueError, "mask size 0 x 4"),
        (lambda: mask.frPyObjects([[0, 0, 1, 1, 2, 2]], "3", 4), TypeError, "h: must be a whole number from 1 on, not str"),
        (lambda: mask.frPyObjects([[0, 0, 1, 1, 2, 2]], 3, -4), ValueError, "w: must be a whole number from 1 on, not -4"),
        (lambda: mask.frPyObjects({"size": [3, 4], "counts": [0, 5]}, 3, 4), ValueError, "runs add up to 5"),
    ],
)
def test_bad_input_names_its_argument(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)


def areas(seed):
    array = np.random.default_rng(seed).integers(0, 2, (64, 64), np.uint8)
    return int(mask.area(mask.encode(array))), int(array.sum())


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_other_processes(start):
    areas(0)
    with multiprocessing.get_context(start).Pool(2) as pool:
        assert all(ours == theirs for ours, theirs in pool.map_async(areas, range(16)).get(timeout=60))


def test_threads():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(ours == theirs for ours, theirs in pool.map(areas, range(64)))
