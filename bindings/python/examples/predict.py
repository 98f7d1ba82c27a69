"""Masks of sentences in an image, as COCO results.

python predict.py RUN_OR_HF_ID IMAGE "the zebra on the left" [MORE SENTENCES]
"""

import json
import sys

import saymask


def main(source, image, sentences):
    model = saymask.load(source)
    for found in model(image, sentences):
        x, y, w, h = found.box
        print(f"{found.sentence!r}: score {found.score:.3f}, {found.area} pixels, box {x:.0f},{y:.0f} {w:.0f}x{h:.0f}", file=sys.stderr)
        segmentation = {"size": found.rle["size"], "counts": found.rle["counts"].decode()}
        print(json.dumps({"sentence": found.sentence, "segmentation": segmentation, "score": found.score}))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
