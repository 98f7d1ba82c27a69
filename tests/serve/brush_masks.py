"""Masks of `saymask serve` as Label Studio's own code reads them.

    python tests/serve/brush_masks.py ADDRESS IMAGE SENTENCE...

Needs label-studio-sdk and numpy. Asks /label-studio/predict and /v1/segment about an image, unpacks the first by
`label_studio_sdk.converter.brush.decode_rle`, and compares pixel by pixel.
"""

import base64
import json
import sys
import urllib.request

from masks import coco_mask, unpacked


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))


def main(address, path, *sentences):
    address = address.rstrip("/")
    image = base64.b64encode(open(path, "rb").read()).decode()
    labels = "".join(f'<Label value="{s}"/>' for s in sentences)
    config = f'<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">{labels}</BrushLabels></View>'
    task = {"data": {"image": "data:image/png;base64," + image}}
    found = post(f"{address}/label-studio/predict", {"tasks": [task], "label_config": config})["results"][0]["result"]
    masks = {r["value"]["brushlabels"][0]: unpacked(r) for r in found}
    for entry in post(f"{address}/v1/segment", {"image": image, "sentences": list(sentences)})["predictions"]:
        want, sentence = coco_mask(entry["segmentation"]), entry["sentence"]
        if sentence not in masks:
            assert not want.any(), f"{sentence}: a mask is missing"
            continue
        assert (masks[sentence] == want).all(), f"{sentence}: masks differ"
        print(f"equal: {sentence}, {int(want.sum())} pixels")


if __name__ == "__main__":
    main(*sys.argv[1:])
