#!/usr/bin/env bash
# Scores a whole-image model on the images of one split: once as they are, once as the
# mean over the four flips, with intervals and a paired comparison of the two.
#
#   bash bin/06_evaluate.sh MODEL IMAGES.csv OUT [--split test|val|train] [--overwrite]
#        [FLAGS...]
#
# MODEL is a .keras file or a run folder's best.keras. OUT gets predictions.csv and
# predictions_augmented.csv, then of the first metrics.json (with the comparison),
# report.html, report.md, report.json, roc.csv and plots/, and in augmented/ the same of
# the second. The threshold is the one that the model carries. FLAGS go to
# python -m dm_training.evaluate for the first: --lesions LESIONS.csv,
# --patch-model PATCH_RUN/best.keras, --audit DIR, --prevalence P, --gallery N (0: none),
# --title TEXT, --note TEXT, --draws N, --seed N, --how mean|max.
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
flags=()
while [ $# -gt 0 ]; do
    case "$1" in
        --split) split="${2:?--split needs a value}"; shift 2 ;;
        --split=*) split="${1#*=}"; shift ;;
        --overwrite) overwrite=(--overwrite); shift ;;
        --lesions | --patch-model | --audit)
            [ -e "${2:?$1 needs a path}" ] || { echo "error: $1 $2: no such file" >&2; exit 2; }
            flags+=("$1" "$2"); shift 2 ;;
        --prevalence | --gallery | --title | --note | --draws | --seed | --how)
            flags+=("$1" "${2:?$1 needs a value}"); shift 2 ;;
        *) echo "error: unknown argument $1; see --help" >&2; exit 2 ;;
    esac
done

status=0
predict() { # 1: some images could not be read and are listed; the rest goes on
    local code=0 written="$1"
    shift
    if [ ${#overwrite[@]} -gt 0 ]; then rm -f "$written"; fi
    dm_python -m dm_training.predict "$model" "$images" --split "$split" --level image \
        --batch-size "${BATCH_SIZE:-8}" --out "$written" "${overwrite[@]}" "$@" \
        || code=$?
    if [ "$code" -gt 1 ]; then exit "$code"; fi
    if [ "$code" -eq 1 ]; then status=1; fi
    if [ ! -f "$written" ]; then exit 1; fi
}
score() {
    dm_python -m dm_training.evaluate "$@" --split "$split" --images "$images" \
        --decision "$model" "${overwrite[@]}"
}

predict "$out/predictions.csv"
predict "$out/predictions_augmented.csv" --tta
score "$out/predictions_augmented.csv" --out "$out/augmented" --gallery 0
score "$out/predictions.csv" --out "$out" \
    --compare "mean of four flips=$out/predictions_augmented.csv" \
    --model "$model" "${flags[@]}"
exit "$status"
