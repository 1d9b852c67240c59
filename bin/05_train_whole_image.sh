#!/usr/bin/env bash
# Turns a patch classifier into a whole-image classifier, on image labels alone.
#
#   bash bin/05_train_whole_image.sh IMAGES OUT --recipe NET-SET-TOP \
#        --patch-model-state PATCH_RUN/best.keras [FLAGS...]
#
# IMAGES is images.csv with its splits, or a folder with train/, val/ and test/, each
# with one folder a class (neg, pos). FLAGS go to python -m dm_training.image_clf_train
# (--help lists them). Writes the run folder OUT.
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
[ $# -ge 2 ] || { dm_help "$0" >&2; exit 2; }
data="$1" out="$2"
shift 2
if [ -d "$data" ]; then
    parts=("$data/train" "$data/val" "$data/test")
else
    parts=("$data" "$data" "$data")
fi
dm_python -m dm_training.image_clf_train "${parts[@]}" --out "$out" "$@"
