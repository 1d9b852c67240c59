#!/usr/bin/env bash
# Scores images with a whole-image model: DICOM, PNG, TIFF or PGM files, folders, tables.
#
#   bash bin/11_predict.sh MODEL OUT.csv PATH... [FLAGS]
#   bash bin/11_predict.sh runs/whole/best.keras p.csv images.csv --split all --tta
#
# FLAGS go to python -m dm_training.predict (--help lists them). Writes OUT.csv, one line
# an image, and beside it OUT_breast.csv and OUT_patient.csv where ids are known; a file
# that gets no score is named and the exit status is 1. A run that was broken off goes on
# when the same command is given again.
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
[ $# -ge 3 ] || { dm_help "$0" >&2; exit 2; }
model="$1" out="$2"
shift 2
dm_python -m dm_training.predict "$model" "$@" --out "$out"
