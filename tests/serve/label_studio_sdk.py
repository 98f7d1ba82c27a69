"""Masks of `saymask serve` as Label Studio's own code reads them.

    python tests/serve/label_studio_sdk.py ADDRESS IMAGE SENTENCE...

Needs label-studio-sdk and numpy. Asks /label-studio/predict and /v1/segment about an image, unpacks the first by
`label_studio_sdk.converter.brush.decode_rle`, and compares pixel by pixel.
"""

import base64
import json
import sys
import urllib.request

import numpy as np
from label_studio_sdk.converter.brush import decode_rle


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))


def coco_mask(runs):
    """COCO's compressed run lengths as an array, read as their definition says."""
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


def main(address, path, *sentences):
    address = address.rstrip("/")
    image = base64.b64encode(open(path, "rb").read()).decode()
    labels = "".join(f'<Label value="{s}"/>' for s in sentences)
    config = f'<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">{labels}</BrushLabels></View>'
    task = {"data": {"image": "data:image/png;base64," + image}}
    found = post(f"{address}/label-studio/predict", {"tasks": [task], "label_config": config})["results"][0]["result"]
    masks = {r["value"]["brushlabels"][0]: r for r in found}
    answer = post(f"{address}/v1/segment", {"image": image, "sentences": list(sentences)})
    for entry in answer["predictions"]:
        want = coco_mask(entry["segmentation"])
        region = masks.get(entry["sentence"])
        if region is None:
            assert not want.any(), f"{entry['sentence']}: a mask is missing"
            continue
        rgba = np.array(decode_rle(region["value"]["rle"]), np.uint8)
        rgba = rgba.reshape(region["original_height"], region["original_width"], 4)
        assert (rgba == rgba[..., :1]).all(), "channels differ"
        assert (rgba[..., 3] == 255 * want).all(), f"{entry['sentence']}: masks differ"
        print(f"equal: {entry['sentence']}, {int(want.sum())} pixels")


if __name__ == "__main__":
    main(*sys.argv[1:])
