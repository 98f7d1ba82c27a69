"""RefCOCO-family data and sets of classes, iterated lazily.

>>> import tempfile
>>> from saymask import datasets
>>> root = tempfile.mkdtemp()
>>> datasets.generate(root, images=8, size=64)        # a small set in RefCOCO's files; yours are opened alike
>>> val = datasets.open(root, "refcoco", split_by="unc", split="val")
>>> sample = val[0]
>>> sample.image.shape, sample.mask.shape, sample.mask.dtype
((56, 64, 3), (56, 64), dtype('bool'))
>>> for sample in val:
...     image, sentence, mask = sample.image, sample.sentence, sample.mask
"""

from ._native import Dataset, Photograph, Sample, generate, open

__all__ = ["Dataset", "Photograph", "Sample", "generate", "open"]
