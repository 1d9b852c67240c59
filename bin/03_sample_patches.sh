#!/usr/bin/env bash
# Cuts patches around the lesions, and of background, for the patch classifier.
#
#   bash bin/03_sample_patches.sh SPLIT DATA OUT [OPTIONS]
#
# SPLIT is the folder of 02_split_patients.sh, DATA the converted data set (with
# lesions.csv and masks). OUT gets patches.csv, <split>/<class>/*.png and one contact
# sheet a class, contact_<class>.png: look at them. Options go on to
# `python -m dm_preprocess.patches`, such as --allow-missing-masks, --jobs N,
# --dask ADDRESS, --overwrite.
#
#   RECIPE              s1, s10 or sN        (default: s10)
#   PATCH_SIZE          pixels               (default: 224)
#   RANDOM_SEED         seed                 (default: 12345)
#   NUM_CPU_CORES       processes            (default: all cores)
#   DM_DASK             a Dask scheduler, such as tcp://scheduler:8786, whose workers do
#                       the work instead (default: none); it needs pip install ".[dask]"
#   DM_ENV, DM_PYTHON   the Python environment (see bin/_env.sh)
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
if [ $# -lt 3 ]; then
    echo "error: SPLIT, DATA and OUT are due; see --help" >&2
    exit 2
fi

split="$1"
data="$2"
out="$3"
shift 3
dm_python -m dm_preprocess.patches "$split/images.csv" "$data/lesions.csv" \
    --out "$out" --recipe "${RECIPE:-s10}" --size "${PATCH_SIZE:-224}" \
    --seed "${RANDOM_SEED:-12345}" --jobs "${NUM_CPU_CORES:--1}" \
    --dask "${DM_DASK:-}" "$@"
