#!/usr/bin/env bash
# Makes synthetic mammograms in the form of CBIS-DDSM (film) and INbreast (digital).
#
#   bash bin/00_make_phantoms.sh OUT [--patients N] [--digital-patients M] [--seed S]
#
# Reads: nothing. Writes: OUT/cbis-ddsm, OUT/inbreast, OUT/truth.csv.
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
[ $# -ge 1 ] || { dm_help "$0" >&2; exit 2; }
out="$1"
shift
dm_python -m dm_preprocess.phantom --out "$out" "$@"
