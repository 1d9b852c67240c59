#!/usr/bin/env bash
# Exports a trained model for TensorFlow Serving, and on request as ONNX, .keras, .h5.
#
#   bash bin/10_export_savedmodel.sh MODEL.keras MODELS/NAME [OPTIONS]
#
# Writes the SavedModel MODELS/NAME/1 (the next free number where there are versions),
# and beside NAME what TensorFlow Serving is started with: models.config,
# batching.config, Dockerfile, compose.yaml. Options go on to `python -m
# dm_models.export`: --onnx FILE, --weights-h5 FILE, --keras FILE, --card-from DIR,
# --card-note TEXT, --no-serving-files, --overwrite. Every form takes raw 16-bit grey
# levels and is checked to give the model's own scores, a SavedModel by each of its
# signatures. MODEL_CARD.md in it tells what was measured: the figures of the run folder
# that the model lies in, and those of evaluations named by --card-from.
#
#   DM_ENV, DM_PYTHON   the Python environment (see bin/_env.sh)
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
if [ $# -lt 2 ]; then
    echo "error: MODEL and MODELS/NAME are due; see --help" >&2
    exit 2
fi

model="$1"
out="$2"
shift 2
dm_python -m dm_models.export "$model" --out "$out" "$@"
