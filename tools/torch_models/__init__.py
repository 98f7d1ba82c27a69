"""The three methods in PyTorch, to be timed beside Saymask: written from this repository's own code on public packages.

SAM, BERT and CLIP are those of Hugging Face's transformers; what the methods add, and BEiT-3, are small modules of their own.
A case file (`cargo xtask bench methods --describe`) says sizes, token ids and settings, so nothing is written down twice.
"""
