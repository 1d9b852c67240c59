#!/usr/bin/env bash
# Trains a patch classifier: background, malignant and benign calcification and mass.
#
#   bash bin/04_train_patch_classifier.sh PATCHES OUT [FLAGS...]
#
# PATCHES is patches.csv, or a folder with train/, val/ and test/, each with one folder
# a class. FLAGS go to python -m dm_training.patch_clf_train (--help lists them).
# Defaults by environment: DM_NET (resnet50). Writes the run folder OUT.
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
dm_python -m dm_training.patch_clf_train "${parts[@]}" --out "$out" \
    --net "${DM_NET:-resnet50}" "$@"
