"""Checked by mypy, not run: what the stubs promise is what a user writes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import saymask
from saymask import datasets, mask


def masks(array: npt.NDArray[np.uint8]) -> tuple[float, npt.NDArray[np.uint8]]:
    rle = mask.encode(array)
    both = mask.merge([rle, rle], intersect=True)
    overlaps: npt.NDArray[np.float64] = mask.iou([rle], [both], [0])
    area: np.uint32 = mask.area(both)
    return float(overlaps[0, 0]) + int(area), mask.decode(both)


def sets(root: Path) -> list[str]:
    val = datasets.open(root, "refcocog", split_by="umd", split="val")
    areas = [int(sample.mask.sum()) for sample in val]
    scores = saymask.evaluate(val, [{"sent_id": val[0].sent_id, "mask": val[0].mask}], ["dit"])
    return [image.file_name for image in val.images] + [str(areas), str(scores["protocols"])]


def models(path: Path, image: npt.NDArray[np.uint8]) -> list[saymask.Prediction]:
    model = saymask.load(path, set=["eval.threshold=0.4"])
    one: saymask.Prediction = model(image, "the red circle")
    several: list[saymask.Prediction] = model("photo.jpg", ["the red circle", "grass"])
    batch: list[list[saymask.Prediction]] = model([image, path], ["the red circle"])
    asked: saymask.Prediction = model.embed(image).ask("the red circle", points=[(3, 4), (5, 6, 0)])
    box: npt.NDArray[np.float64] = one.box
    return [*several, *batch[0], asked] if box.any() else []
