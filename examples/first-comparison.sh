#!/bin/sh
# A newcomer's first ten minutes: from a clone to a comparison, its figure and its report, on data that are not downloaded.
# Run it from the clone. It installs dwfbench into ./first/env and leaves everything else in ./first, too:
#
#     sh examples/first-comparison.sh
#
# PYTHON names another Python; QUICK holds further flags of `dwfbench run`, such as "--epochs 100".
set -eu

clone=$(pwd)
mkdir -p first
cd first
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet "$clone"
dwfbench() { env/bin/dwfbench "$@"; }

dwfbench doctor || echo "Something is a problem; the table says what to do."
dwfbench run --method dwf,magnitude,dense --compression 5,30,100 ${QUICK:-} || [ $? -eq 1 ] # 1: some runs are no results
dwfbench compare --at 5,30,100
dwfbench plot
dwfbench claims
dwfbench report
echo "The figure is first/results/accuracy.png, the report first/results/report.html."
