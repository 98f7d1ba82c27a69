"""Text-prompted Segment Anything: models, data sets, a referee for published protocols, and COCO masks. No torch.

>>> import saymask
>>> model = saymask.load("hf:YxZhang/evf-sam")                              # doctest: +SKIP
>>> model("photo.jpg", "the zebra on the left").mask.sum()                  # doctest: +SKIP
"""

from . import datasets, mask
from ._native import __version__, evaluate

__all__ = ["__version__", "datasets", "evaluate", "mask"]

try:
    from ._native import Embedding, Model, Prediction, load
except ImportError:  # A build without the feature `models`: masks, data sets and the referee.
    pass
else:
    __all__ += ["Embedding", "Model", "Prediction", "load"]
