#!/usr/bin/env bash
# Measures this project's speed on this machine, against other ways of doing the same.
#
#   bash bin/benchmark.sh [--out FILE.json] [--only PART ...] [--quick]
#
# Parts: input, training, inference, conversion, growth, prediction. Every comparison is
# a ratio in one run; all data is synthetic. Writes FILE.json (default: benchmark.json)
# and a chart, FILE.png, and prints a table: about 15 minutes on 2 cores. Let nothing
# else run.
# Programs that are compared against and are not installed are left out:
# pip install ".[benchmark]" brings them (and torch, by itself, PyTorch).
#
# FLAGS go to python -m dm_training.benchmark: --folder DIR (temporary data, up to 2 GB),
# --overwrite.
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
dm_python -m dm_training.benchmark "$@"
