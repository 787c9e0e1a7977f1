#!/usr/bin/env bash
# A study on a cluster that scales from zero: ask for GPUs, wait for them, run, let them go.
#   ray job submit --working-dir . -- bash clusters/study.sh GPUS --grid losses --data STORE --out /shared/studies/first
# Runs on the head. Without the last step machines would be paid for until somebody looked; a job that is killed hard
# (kill -9, head lost) does not come to it: `python clusters/capacity.py release`, or `ray down`.
set -euo pipefail
gpus=${1:?"usage: bash clusters/study.sh GPUS [options of launch.py]"}
shift
trap 'python clusters/capacity.py release' EXIT
python clusters/capacity.py ask "$gpus"
status=0
python launch.py "$@" || status=$?
exit "$status" # as launch.py says: 0 done, 2 wrong request, 3 some trials failed, 130 interrupted
