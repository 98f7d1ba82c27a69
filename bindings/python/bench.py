"""saymask.mask beside pycocotools.mask: the same inputs, the same results, seconds of the fastest of several rounds.

python bench.py [--write FILE]     writes the table between the marks of FILE
"""

import argparse
import os
import platform
import subprocess
import time
from pathlib import Path

import numpy as np
import pycocotools.mask as theirs
from saymask import mask as ours

BEGIN, END = "<!-- mask-speed: begin -->", "<!-- mask-speed: end -->"
ROUNDS = 15
LEAST_SECONDS = 0.02


def blobs(random, height, width, count):
    """Masks of smooth outlines, as segmentations are."""
    y, x = np.mgrid[:height, :width]
    stack = np.zeros((height, width, count), np.uint8, order="F")
    for i in range(count):
        for _ in range(random.integers(1, 4)):
            cy, cx, ry, rx = random.random(4) * (height, width, height / 3, width / 3) + (0, 0, 8, 8)
            wave = 1 + 0.2 * np.sin(7 * np.arctan2(y - cy, x - cx))
            stack[:, :, i] |= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < wave
    return stack


def outlines(random, height, width, count, points):
    """Polygons around a centre, as annotators draw them."""
    out = []
    for _ in range(count):
        angles = np.sort(random.random(points)) * 2 * np.pi
        radius = random.uniform(0.5, 1, points) * random.uniform(10, min(height, width) / 3)
        centre = random.random(2) * (width, height)
        out.append((centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)).ravel().round(2).tolist())
    return out


def cases():
    """(what, function of a module)."""
    random = np.random.default_rng(0)
    stack = blobs(random, 480, 640, 20)
    one = np.asfortranarray(stack[:, :, 0])
    rows = np.ascontiguousarray(one)
    noise = np.asfortranarray(random.integers(0, 2, (480, 640), np.uint8))
    small = np.asfortranarray(blobs(random, 32, 32, 1)[:, :, 0])
    large = np.asfortranarray(blobs(random, 2160, 3840, 1)[:, :, 0])
    rle, rles, noisy = theirs.encode(one), theirs.encode(stack), theirs.encode(noise)
    many = theirs.encode(blobs(random, 480, 640, 200))
    boxes = random.random((300, 4)) * 200
    lists = boxes.tolist()
    polygons = outlines(random, 480, 640, 20, 40)
    raw = {"size": [480, 640], "counts": np.diff(np.flatnonzero(np.diff(np.r_[0, one.ravel("F"), 2])), prepend=0).tolist()}
    raw["counts"][-1] += 480 * 640 - sum(raw["counts"])
    return [
        ("encode, 480 x 640", lambda m: m.encode(one)),
        ("encode, 480 x 640, rows contiguous", lambda m: m.encode(rows if m is ours else np.asfortranarray(rows))),
        ("encode, 480 x 640 x 20", lambda m: m.encode(stack)),
        ("encode, 480 x 640 of noise", lambda m: m.encode(noise)),
        ("encode, 32 x 32", lambda m: m.encode(small)),
        ("encode, 2160 x 3840", lambda m: m.encode(large)),
        ("decode, 480 x 640", lambda m: m.decode(rle)),
        ("decode, 20 of them", lambda m: m.decode(rles)),
        ("decode, of noise", lambda m: m.decode(noisy)),
        ("area, of one", lambda m: m.area(rle)),
        ("area, of 200", lambda m: m.area(many)),
        ("toBbox, of one", lambda m: m.toBbox(rle)),
        ("toBbox, of 200", lambda m: m.toBbox(many)),
        ("merge, union of 20", lambda m: m.merge(rles)),
        ("merge, intersection of 2", lambda m: m.merge(rles[:2], 1)),
        ("merge, with noise", lambda m: m.merge([rle, noisy])),
        ("iou, masks, 1 x 1", lambda m: m.iou(rles[:1], rles[1:2], [0])),
        ("iou, masks, 200 x 200", lambda m: m.iou(many, many, [0] * 200)),
        ("iou, boxes as arrays, 300 x 300", lambda m: m.iou(boxes, boxes, [0] * 300)),
        ("iou, boxes as lists, 300 x 300", lambda m: m.iou(lists, lists, [0] * 300)),
        ("frPyObjects, 20 polygons of 40 points", lambda m: m.frPyObjects(polygons, 480, 640)),
        ("frPyObjects, 300 boxes", lambda m: m.frPyObjects(boxes, 480, 640)),
        ("frPyObjects, uncompressed run lengths", lambda m: m.frPyObjects(raw, 480, 640)),
    ]


def equal(a, b):
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def seconds(call, module):
    """Seconds of a call, in a loop long enough to be timed."""
    count, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < LEAST_SECONDS:
        call(module)
        count += 1
    return spent / count


def measured():
    """(what, seconds of ours, seconds of theirs), taken in turns."""
    for what, call in cases():
        if not equal(call(ours), call(theirs)):
            raise SystemExit(f"{what}: other results than pycocotools")
        rounds = [(seconds(call, ours), seconds(call, theirs)) for _ in range(ROUNDS)]
        yield what, min(r[0] for r in rounds), min(r[1] for r in rounds)


def origin():
    """Command, machine and commit."""
    here = Path(__file__).parent
    git = lambda *args: subprocess.run(["git", *args], capture_output=True, text=True, cwd=here).stdout.strip()  # noqa: E731
    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        processor = names[0] if names else processor
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, pycocotools {version('pycocotools')}"
    return f"`python3 bindings/python/check.py --bench` on {processor}, {versions}, at commit {git('rev-parse', '--short', 'HEAD')}{changed}"


def version(package):
    from importlib.metadata import version

    return version(package)


def table():
    """The table in markdown."""
    lines = ["| call | saymask, µs | pycocotools, µs | times as fast |", "|---|---|---|---|"]
    for what, mine, other in measured():
        lines.append(f"| {what} | {mine * 1e6:.1f} | {other * 1e6:.1f} | {other / mine:.2f} |")
        print(lines[-1], flush=True)
    return "\n".join([*lines, "", f"{origin()}. One thread; the fastest of {ROUNDS} rounds, taken in turns; results compared."])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", metavar="FILE", type=Path)
    args = parser.parse_args()
    made = table()
    if args.write:
        text = args.write.read_text()
        head, rest = text.split(BEGIN)
        args.write.write_text(f"{head}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
