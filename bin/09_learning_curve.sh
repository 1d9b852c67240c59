#!/usr/bin/env bash
# How many women's images fine-tuning takes: one training a subset, all on one test set.
#
#   bash bin/09_learning_curve.sh MODEL IMAGES.csv OUT [OPTIONS...] [-- FLAGS...]
#   bash bin/09_learning_curve.sh NAME=MODEL NAME=MODEL... IMAGES.csv OUT [OPTIONS...]
#
# MODEL is a whole-image model (.keras or .h5), IMAGES.csv has its splits. OPTIONS, such
# as --sizes 20 40 all --draws 3, go to python -m dm_training.learning_curve (its --help
# lists them), FLAGS to each training (python -m dm_training.image_clf_train). OUT gets
# curve.csv, curve.json and plots/learning_curve.png; run again, it goes on.
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
given=()
while [ $# -gt 0 ] && [[ "$1" != -* ]]; do
    given+=("$1")
    shift
done
count=${#given[@]}
[ "$count" -ge 3 ] || { dm_help "$0" >&2; exit 2; }
dm_python -m dm_training.learning_curve "${given[@]:0:count-1}" \
    --out "${given[count-1]}" "$@"
