"""Experiments: where the tables of `dm_preprocess` meet the networks of `dm_models`."""

import os

# TensorFlow's own remarks would stand between a user and the one line that matters.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
