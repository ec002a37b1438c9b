#!/usr/bin/env bash
# Everything that needs a GPU, in at most nine minutes, on a machine with PyTorch and neither Ray
# nor Optuna: the tests, the step against a plain loop, several trials on one GPU, and, in the time
# that is left, published rows of CIFAR-10-LT. Results: $OUT/gpu.json (default: the folder `gpu`).
#
#   OUT=results bash benchmarks/gpu.sh
#   IMBTUNE_DATA=FOLDER_WITH_CIFAR10 bash benchmarks/gpu.sh        # with the published rows
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" benchmarks/gpu.py --out "${OUT:-gpu}" "$@"
