#!/usr/bin/env bash
# Scores a whole-image model on the images of one split: once as they are, once as the
# mean over the four flips, with intervals and a paired comparison of the two.
#
#   bash bin/06_evaluate.sh MODEL IMAGES.csv OUT [--split test|val|train] [--overwrite]
#
# MODEL is a .keras file or a run folder's best.keras. OUT gets predictions.csv and
# predictions_augmented.csv, then metrics.json (with the comparison), roc.csv and
# plots/roc.png of the first, and in augmented/ the same of the second.
#
#   BATCH_SIZE          images at a time             (default: 8)
#   DM_ENV, DM_PYTHON   the Python environment (see bin/_env.sh)
set -euo pipefail
source "$(dirname "$0")/_env.sh"
for argument in "$@"; do
    case "$argument" in -h | --help) dm_help "$0"; exit 0 ;; esac
done
if [ $# -lt 3 ]; then
    echo "error: MODEL, IMAGES.csv and OUT are due; see --help" >&2
    exit 2
fi

model="$1"
images="$2"
out="$3"
shift 3
split=test
overwrite=()
while [ $# -gt 0 ]; do
    case "$1" in
        --split) split="${2:?--split needs a value}"; shift 2 ;;
        --split=*) split="${1#*=}"; shift ;;
        --overwrite) overwrite=(--overwrite); shift ;;
        *) echo "error: unknown argument $1; see --help" >&2; exit 2 ;;
    esac
done

status=0
predict() { # 1: some images could not be read and are listed; the rest goes on
    local code=0 written="$1"
    shift
    if [ ${#overwrite[@]} -gt 0 ]; then rm -f "$written"; fi
    dm_python -m dm_training.predict "$model" "$images" --split "$split" \
        --batch-size "${BATCH_SIZE:-8}" --out "$written" "${overwrite[@]}" "$@" \
        || code=$?
    if [ "$code" -gt 1 ]; then exit "$code"; fi
    if [ "$code" -eq 1 ]; then status=1; fi
    if [ ! -f "$written" ]; then exit 1; fi
}
score() {
    dm_python -m dm_training.evaluate "$@" --split "$split" "${overwrite[@]}"
}

predict "$out/predictions.csv"
predict "$out/predictions_augmented.csv" --tta
score "$out/predictions_augmented.csv" --out "$out/augmented"
score "$out/predictions.csv" --out "$out" --compare "$out/predictions_augmented.csv"
exit "$status"
