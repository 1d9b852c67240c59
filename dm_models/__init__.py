"""Tensors: patch classifiers and the whole-image classifiers made from them."""
