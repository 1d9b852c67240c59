#!/usr/bin/env bash
# Splits a converted data set by patient into train, val and test.
#
#   bash bin/02_split_patients.sh DATA OUT [OPTIONS]
#
# DATA is the folder that a conversion wrote (with images.csv). OUT gets images.csv with
# its splits and splits.json with the counts and the training images' grey mean. Options
# go on to `python -m dm_preprocess.splits`, such as --test-share 0.30 (INbreast),
# --ids FILE.csv, --folds 5 --fold 0, --both-sides test, --overwrite.
#
#   SCHEME              paper, official, file or folds   (default: paper)
#   RANDOM_SEED         seed                             (default: 12345)
#   NUM_CPU_CORES       processes                        (default: all cores)
#   DM_ENV, DM_PYTHON   the Python environment (see bin/_env.sh)
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
if [ $# -lt 2 ]; then
    echo "error: DATA and OUT are due; see --help" >&2
    exit 2
fi

data="$1"
out="$2"
shift 2
dm_python -m dm_preprocess.splits "$data/images.csv" --out "$out" \
    --scheme "${SCHEME:-paper}" --seed "${RANDOM_SEED:-12345}" \
    --jobs "${NUM_CPU_CORES:--1}" "$@"
