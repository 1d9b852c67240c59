#!/usr/bin/env bash
# Runs the tests; makes the Python environment first if there is none.
#
#   bash bin/run_tests.sh              the everyday tests, under 10 minutes on 2 cores
#   bash bin/run_tests.sh --all        the long ones too
#   bash bin/run_tests.sh ARGS...      further arguments go to pytest
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac

which=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
    which=()
    shift
fi
cd "$DM_ROOT"
dm_python -m pytest "${which[@]}" --durations=15 "$@"
