#!/usr/bin/env bash
# Fine-tunes a whole-image model on another machine's images; no outlines are needed.
#
#   bash bin/08_finetune_inbreast.sh MODEL IMAGES OUT [FLAGS...]
#
# MODEL is a whole-image model (.keras or .h5), IMAGES as for 05_train_whole_image.sh.
# The new images' mean grey level is taken from the splits.json beside images.csv.
# FLAGS go to python -m dm_training.image_clf_train. Writes the run folder OUT.
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
[ $# -ge 3 ] || { dm_help "$0" >&2; exit 2; }
model="$1" data="$2" out="$3"
shift 3
mean=()
if [ -f "$(dirname "$data")/splits.json" ]; then
    mean=(--featurewise-mean "$(dirname "$data")/splits.json")
fi
bash "$DM_ROOT/bin/05_train_whole_image.sh" "$data" "$out" --no-patch-model-state \
    --resume-from "$model" "${mean[@]}" "$@"
