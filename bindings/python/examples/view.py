"""The masks of sentences drawn on the image by supervision (pip install supervision).

python view.py RUN_OR_HF_ID IMAGE OUT.png "the zebra on the left" [MORE SENTENCES]
"""

import sys

import numpy as np
import saymask

try:
    import supervision
    from PIL import Image
except ImportError as error:
    sys.exit(f"{error.name} is not installed: pip install supervision pillow")


def main(source, path, out, sentences):
    image = np.asarray(Image.open(path).convert("RGB"))
    found = saymask.load(source)(image, sentences)
    corners = np.array([[x, y, x + w, y + h] for x, y, w, h in (f.box for f in found)])
    detections = supervision.Detections(
        xyxy=corners,
        mask=np.stack([f.mask for f in found]),
        confidence=np.array([f.score for f in found]),
        class_id=np.arange(len(found)),
    )
    drawn = supervision.MaskAnnotator().annotate(image.copy(), detections)
    drawn = supervision.LabelAnnotator().annotate(drawn, detections, labels=[f.sentence for f in found])
    Image.fromarray(drawn).save(out)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
