"""Masks of COCO and of Label Studio as arrays."""

import numpy as np
from label_studio_sdk.converter.brush import decode_rle


def coco_mask(runs):
    """COCO's compressed run lengths as [height, width] of 0 and 1, read as their definition says."""
    counts, text, at = [], runs["counts"], 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            part = ord(text[at]) - 48
            at += 1
            value |= (part & 31) << shift
            shift += 5
            more = bool(part & 32)
            if not more and part & 16:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    flat = np.concatenate([np.full(n, i % 2, np.uint8) for i, n in enumerate(counts)])
    return flat.reshape(runs["size"][::-1]).T


def unpacked(region):
    """A brush region of Label Studio as [height, width] of 0 and 1."""
    rgba = np.array(decode_rle(region["value"]["rle"]), np.uint8)
    rgba = rgba.reshape(region["original_height"], region["original_width"], 4)
    assert (rgba == rgba[..., :1]).all() and set(np.unique(rgba)) <= {0, 255}, "channels differ"
    return (rgba[..., 3] // 255).astype(np.uint8)
