#!/usr/bin/env bash
# The whole chain in one command, on synthetic mammograms or on mini-MIAS.
#
#   bash bin/quickstart.sh
#       Makes synthetic film and digital mammograms, converts, splits, samples patches,
#       trains a patch classifier, turns it into a whole-image classifier, compares,
#       fine-tunes on the digital images without outlines, exports. About a quarter of
#       an hour on 2 cores. Results: runs/quickstart/report.html and summary.json.
#   bash bin/quickstart.sh --mini-mias DIR
#       The same chain on the 322 films of mini-MIAS, 5 folds by woman; up to an hour.
#       Results: runs/mini-mias/report.html and summary.json.
#
#   --out DIR      run folder (default: runs/quickstart or runs/mini-mias);
#                  it must not exist, or --overwrite must be given
#   --seed N       seed of phantoms and training (default: 2026)
#   --overwrite    replace the folder of an earlier quickstart
#
# The stages are the scripts that stand beside this one; on CBIS-DDSM and INbreast only
# paths, sizes and the recipe differ (see README.md).
set -euo pipefail
source "$(dirname "$0")/_env.sh"

SEED=2026 OUT="" MIAS="" OVERWRITE=0
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) dm_help "$0"; exit 0 ;;
        --out | --seed | --mini-mias)
            [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; } ;;&
        --out) OUT="$2"; shift 2 ;;
        --seed) SEED="$2"; shift 2 ;;
        --mini-mias) MIAS="$2"; shift 2 ;;
        --overwrite) OVERWRITE=1; shift ;;
        *) echo "error: unknown argument $1 (--help)" >&2; exit 2 ;;
    esac
done
BIN="$DM_ROOT/bin"
OUT="${OUT:-$DM_ROOT/runs/$([ -n "$MIAS" ] && echo mini-mias || echo quickstart)}"
if [ -e "$OUT" ]; then
    if [ "$OVERWRITE" = 1 ] && [ -f "$OUT/seconds.tsv" ]; then
        rm -rf "$OUT"
    else
        echo "error: $OUT exists already; --overwrite replaces an earlier quickstart" >&2
        exit 2
    fi
fi
dm_make_environment
mkdir -p "$OUT"
OUT="$(cd "$OUT" && pwd)"
: > "$OUT/seconds.tsv"
export RANDOM_SEED="$SEED"
NET="${DM_NET:-squeezenet}"

# stage NAME COMMAND...: runs a stage and notes how long it took.
stage() {
    local name="$1" began="$EPOCHREALTIME"
    shift
    echo
    echo "== $name"
    "$@"
    awk -v n="$name" -v a="$began" -v b="$EPOCHREALTIME" \
        'BEGIN { printf "%s\t%.1f\n", n, b - a }' >> "$OUT/seconds.tsv"
}

demo() {
    cd "$OUT"
    RECIPE="${DM_RECIPE:-$NET-s5-128x1}"
    stage make_phantoms bash "$BIN/00_make_phantoms.sh" raw \
        --patients 320 --digital-patients 300 --seed "$SEED"

    # film: CBIS-DDSM, with outlines
    stage convert_film bash "$BIN/01_convert_cbis_ddsm.sh" raw/cbis-ddsm film --size 384 288
    stage split_film bash "$BIN/02_split_patients.sh" film film_split \
        --test-share 0.2375 --val-share 0.164
    stage audit_film dm_python -m dm_preprocess.audit film_split/images.csv \
        film/lesions.csv --out film_audit
    stage sample_patches bash "$BIN/03_sample_patches.sh" film_split film \
        patches --recipe s5 --size 64
    stage train_patch_classifier bash "$BIN/04_train_patch_classifier.sh" \
        patches/patches.csv patch --net "$NET"
    stage train_whole_image bash "$BIN/05_train_whole_image.sh" film_split/images.csv \
        whole --recipe "$RECIPE" --patch-model-state patch/best.keras
    stage evaluate_film bash "$BIN/06_evaluate.sh" whole/best.keras \
        film_split/images.csv film_scores --gallery 0 --note "Synthetic images"
    stage train_without_patches bash "$BIN/05_train_whole_image.sh" \
        film_split/images.csv whole_no_patch --recipe "$RECIPE" --match-steps patch whole

    # shortcuts: what brightness and a thumbnail alone would tell
    stage global_statistics dm_python -m dm_training.baselines global-statistics \
        film_split/images.csv --out statistics
    stage thumbnail dm_python -m dm_training.baselines thumbnail \
        film_split/images.csv --out thumbnail

    # digital: INbreast, image labels only
    stage convert_digital bash "$BIN/07_convert_inbreast.sh" raw/inbreast digital \
        --size 384 288
    stage split_digital bash "$BIN/02_split_patients.sh" digital \
        digital_split --test-share 0.2534 --val-share 0.25
    stage evaluate_before bash "$BIN/06_evaluate.sh" whole/best.keras \
        digital_split/images.csv digital_before --gallery 0 --note "Synthetic images"
    stage finetune bash "$BIN/08_finetune_inbreast.sh" whole/best.keras \
        digital_split/images.csv finetuned
    stage evaluate_after bash "$BIN/06_evaluate.sh" finetuned/best.keras \
        digital_split/images.csv digital_after --gallery 0 --note "Synthetic images"
    stage imagenet_only bash "$BIN/05_train_whole_image.sh" digital_split/images.csv \
        digital_imagenet --recipe "$RECIPE" --match-steps finetuned

    stage export bash "$BIN/10_export_savedmodel.sh" whole/best.keras exported/whole \
        --weights-h5 exported_weights.h5 --card-from whole --card-from film_scores \
        --card-note "Trained on synthetic mammograms: it has seen no woman's image."
    stage heat_maps dm_python -m dm_training.overlays patch/best.keras \
        film_split/images.csv --lesions film/lesions.csv --out heat_maps --number 6
    dm_python -m dm_training.summary demo "$OUT"
}

# One fold of mini-MIAS: the test films of this fold have been seen by nothing.
mias_fold() {
    local fold="$1"
    mkdir -p "fold$fold"
    stage "split_$fold" bash "$BIN/02_split_patients.sh" data \
        "fold$fold/split" --scheme folds --folds 5 --fold "$fold" --val-share 0.2
    stage "patches_$fold" bash "$BIN/03_sample_patches.sh" "fold$fold/split" \
        data "fold$fold/patches" --recipe s10 --size 64 \
        --allow-missing-masks --background-per-normal-image 4
    stage "patch_$fold" bash "$BIN/04_train_patch_classifier.sh" \
        "fold$fold/patches/patches.csv" "fold$fold/patch" --net "$NET" \
        --batch-size 64 --all-layer-multiplier 0.3 --nb-epoch 1 --top-layer-epochs 1 \
        --all-layer-epochs 12
    stage "whole_$fold" bash "$BIN/05_train_whole_image.sh" \
        "fold$fold/split/images.csv" "fold$fold/whole" --recipe "$RECIPE" \
        --patch-model-state "fold$fold/patch/best.keras" --img-size 288 288 \
        --nb-epoch 4 --all-layer-epochs 10 --all-layer-multiplier 0.1
}

mias() {
    cd "$OUT"
    RECIPE="${DM_RECIPE:-$NET-s10-128x1}"
    stage convert bash "$BIN/01_convert_mini_mias.sh" "$MIAS" data --size 288 288
    stage audit dm_python -m dm_preprocess.audit data/images.csv data/lesions.csv \
        --out audit || echo "(the audit's findings stand in audit/; going on)"
    for fold in 0 1 2 3 4; do mias_fold "$fold"; done
    dm_python -m dm_training.summary pool fold*/whole/predictions_test.csv \
        --out network
    dm_python -m dm_training.summary pool fold*/whole/predictions_test_augmented.csv \
        --out network_augmented
    stage frozen_features dm_python -m dm_training.baselines frozen-features \
        data/images.csv --folds-from network/folds.csv --out frozen_features
    dm_python -m dm_training.summary mini-mias "$OUT"
}

if [ -n "$MIAS" ]; then
    MIAS="$(cd "$MIAS" && pwd)"
    mias
else
    demo
fi
