"""`saymask.mask` beside pycocotools itself, on thousands of random inputs."""

import numpy as np
import pytest
from saymask import mask

theirs = pytest.importorskip("pycocotools.mask")

# pycocotools 2.0.11 and numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROUNDS = 1500


def array(random, height, width):
    """Noise, blobs, stripes, all or nothing."""
    kind = random.integers(5)
    if kind == 0:
        return (random.random((height, width)) < random.random()).astype(np.uint8)
    if kind == 1:
        y, x = np.mgrid[:height, :width]
        centre, radius = random.random(2) * (height, width), random.random() * max(height, width)
        return (np.hypot(y - centre[0], x - centre[1]) < radius).astype(np.uint8)
    if kind == 2:
        period = random.integers(1, 9)
        return (np.add.outer(np.arange(height) * random.integers(3), np.arange(width)) // period % 2).astype(np.uint8)
    return np.full((height, width), kind - 3, np.uint8)


def outline(random, height, width):
    """A polygon, often beyond the image, sometimes degenerate."""
    points = random.integers(3, 12)
    scale = random.choice([1.0, 1.0, 2.0])
    corners = (random.random((points, 2)) * scale - (scale - 1) / 2) * (width, height)
    if random.random() < 0.3:
        corners = corners.round()
    if random.random() < 0.1:
        corners[1:] = corners[0]
    return corners.ravel().tolist()


def boxes(random, count):
    return np.round(random.random((count, 4)) * 20, int(random.integers(0, 3)))


@pytest.mark.parametrize("seed", range(4))
def test_masks(seed):
    random = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        height, width, count = (int(n) for n in random.integers(1, (70, 70, 5)))
        stack = np.asfortranarray(np.stack([array(random, height, width) for _ in range(count)], axis=2))
        ours, pyco = mask.encode(stack), theirs.encode(stack)
        assert ours == pyco
        assert mask.encode(np.ascontiguousarray(stack[:, :, 0])) == pyco[0]
        np.testing.assert_array_equal(mask.decode(pyco), theirs.decode(pyco))
        np.testing.assert_array_equal(mask.decode(pyco[0]), theirs.decode(pyco[0]))
        np.testing.assert_array_equal(mask.area(pyco), theirs.area(pyco))
        np.testing.assert_array_equal(mask.toBbox(pyco), theirs.toBbox(pyco))
        for intersect in (0, 1):
            assert mask.merge(pyco, intersect) == theirs.merge(pyco, intersect)
        crowd = random.integers(0, 2, count).tolist()
        np.testing.assert_array_equal(mask.iou(pyco[:2], pyco, crowd), theirs.iou(pyco[:2], pyco, crowd))


@pytest.mark.parametrize("seed", range(4))
def test_polygons_and_boxes(seed):
    random = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        height, width, count = (int(n) for n in random.integers(1, (70, 70, 5)))
        polygons = [outline(random, height, width) for _ in range(count)]
        assert mask.frPyObjects(polygons, height, width) == theirs.frPyObjects(polygons, height, width)
        some = boxes(random, count)
        assert mask.frPyObjects(some, height, width) == theirs.frPyObjects(some, height, width)
        others, crowd = boxes(random, 3), random.integers(0, 2, 3).tolist()
        np.testing.assert_array_equal(mask.iou(some, others, crowd), theirs.iou(some, others, crowd))
        lists = some.tolist(), others.tolist()
        np.testing.assert_array_equal(mask.iou(*lists, crowd), theirs.iou(*lists, crowd))


@pytest.mark.parametrize("seed", range(2))
def test_uncompressed_run_lengths(seed):
    random = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        # Foreground runs of length 0 make pycocotools' boxes wrap around.
        counts = [max(int(n), i % 2) for i, n in enumerate(random.integers(0, 30, random.integers(1, 20)))]
        total = sum(counts)
        if total == 0:
            continue
        # Runs of length 0 in between stay as they are, as in pycocotools.
        raw = {"size": [1, total], "counts": counts}
        ours = mask.frPyObjects(raw, 1, total)
        assert ours == theirs.frPyObjects(raw, 1, total)
        assert mask.area(ours) == theirs.area(ours)
        np.testing.assert_array_equal(mask.toBbox(ours), theirs.toBbox(ours))
        np.testing.assert_array_equal(mask.decode(ours), theirs.decode(ours))


def test_masks_of_several_sizes():
    random = np.random.default_rng(7)
    rles = [theirs.encode(np.asfortranarray(array(random, *random.integers(1, 6, 2)))) for _ in range(60)]
    crowd = random.integers(0, 2, len(rles)).tolist()
    np.testing.assert_array_equal(mask.iou(rles, rles, crowd), theirs.iou(rles, rles, crowd))
    np.testing.assert_array_equal(mask.area(rles), theirs.area(rles))
    np.testing.assert_array_equal(mask.toBbox(rles), theirs.toBbox(rles))
