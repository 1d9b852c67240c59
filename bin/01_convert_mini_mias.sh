#!/usr/bin/env bash
# Converts mini-MIAS to 16-bit PNGs, masks, images.csv and lesions.csv.
#
#   bash bin/01_convert_mini_mias.sh SRC OUT [OPTIONS]
#
# SRC holds Info.txt and mdb001.pgm to mdb322.pgm.
#
# What is done is not done again; OUT/report.md lists everything odd that was met and
# OUT/failed.csv the files that could not be read (exit status 1). Options go on to
# `python -m dm_preprocess.convert`: --size H W (default: the paper's 1152 896),
# --fit squash|pad, --crop-breast, --grey full-range|auto-level, --voi, --index-only,
# --limit N, --jobs N, --dask ADDRESS, --overwrite.
#
#   DM_HEIGHT, DM_WIDTH   the working size (default: 1152 and 896)
#   DM_JOBS               processes        (default: -1, all cores)
#   DM_DASK               a Dask scheduler, such as tcp://scheduler:8786, whose workers do
#                         the work instead (default: none); it needs pip install ".[dask]"
#   DM_ENV, DM_PYTHON     the Python environment (see bin/_env.sh)
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
if [ $# -lt 2 ]; then
    echo "error: SRC and OUT are due; see --help" >&2
    exit 2
fi

src="$1"
out="$2"
shift 2
dm_python -m dm_preprocess.convert mini-mias "$src" "$out" \
    --size "${DM_HEIGHT:-1152}" "${DM_WIDTH:-896}" --jobs "${DM_JOBS:--1}" \
    --dask "${DM_DASK:-}" "$@"
