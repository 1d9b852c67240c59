"""Experiments: where the tables of `dm_preprocess` meet the networks of `dm_models`."""
