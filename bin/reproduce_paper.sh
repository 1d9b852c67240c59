#!/usr/bin/env bash
# The paper's Tables 1 to 4 and Figures 2 and 3 again, from raw DICOM, by one command.
#
#   bash bin/reproduce_paper.sh --cbis-ddsm DIR --inbreast DIR --out DIR [FLAGS...]
#   bash bin/reproduce_paper.sh --scale demo --out DIR
#
# Every row of a table is one recipe. A row that is done is not done again: the same
# command goes on where a run was killed, a training from its last epoch. A row that
# fails takes no other with it (exit status 1, and a list). Prints each table with the
# paper's value, ours with its interval, and the difference; OUT gets report.html,
# paper.json, tables/, figures/, splits/, commands.txt, logs/ and every run.
#
#   --scale paper|demo   demo: phantoms and small networks, no DICOM, under an hour on
#                        2 cores; the real networks are built and take one step each
#   --only PART ...      table1 table2 table3 table4 figure2 figure3 ensemble
#   --split paper|official, --seed N, --draws N (subsets of women in Table 4)
#   --gpus 0,1,2         rows side by side, one on each GPU
#   --weights-resnet50 FILE, --weights-vgg16 FILE   ImageNet weights without top
#   --dry-run            print every command and end
#
#   DM_ENV, DM_PYTHON    the Python environment (see bin/_env.sh)
set -euo pipefail
source "$(dirname "$0")/_env.sh"
case "${1:-}" in -h | --help) dm_help "$0"; exit 0 ;; esac
dm_python -m dm_training.paper "$@"
