#!/usr/bin/env bash
# Exports a trained model: SavedModel, and on request .keras and weights .h5.
#
#   bash bin/10_export_savedmodel.sh MODEL.keras OUT_FOLDER [OPTIONS]
#
# Options go on to `python -m dm_models.export`: --weights-h5 FILE, --keras FILE,
# --card-from DIR, --card-note TEXT, --overwrite. Every form takes raw 16-bit grey
# levels and is checked to give the model's own scores. OUT_FOLDER/MODEL_CARD.md tells
# what was measured: the figures of the run folder that the model lies in, and those of
# evaluations named by --card-from.
#
#   DM_ENV, DM_PYTHON   the Python environment (see bin/_env.sh)
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
if [ $# -lt 2 ]; then
    echo "error: MODEL and OUT_FOLDER are due; see --help" >&2
    exit 2
fi

model="$1"
out="$2"
shift 2
dm_python -m dm_models.export "$model" --out "$out" "$@"
