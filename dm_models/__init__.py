"""Tensors: patch classifiers and the whole-image classifiers made from them."""

import os

# TensorFlow's own remarks would stand between a user and the one line that matters.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
