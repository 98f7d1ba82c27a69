"""COCO masks, a drop-in for ``pycocotools.mask``: the same types in and out, the same results.

>>> import numpy as np
>>> from saymask import mask
>>> square = np.zeros((10, 10), np.uint8)
>>> square[2:5, 3:8] = 1
>>> rle = mask.encode(square)
>>> rle
{'size': [10, 10], 'counts': b'P1370000000b0'}
>>> int(mask.area(rle)), mask.toBbox(rle).tolist()
(15, [3.0, 2.0, 5.0, 3.0])

Where it differs: arrays of any order and of bool are taken (pycocotools refuses all but Fortran order), everything but 0 is foreground,
run lengths may be uncompressed everywhere, single polygons and lists of boxes work in ``frPyObjects``; and run lengths that do not add up
to height x width, masks of several sizes in one array and masks without pixels are errors.
"""

from ._native import area, decode, encode, frPyObjects, iou, merge, toBbox

__all__ = ["area", "decode", "encode", "frPyObjects", "iou", "merge", "toBbox"]
