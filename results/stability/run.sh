#!/bin/bash
# Trials of stability. usage: run.sh FOLDER. Two strengths a depth, for CR about 30 and 300 at rate 0.3 and momentum 0.9;
# where rate, momentum or batch size differ, the strengths are scaled so that the decay budget is the same.
C="--config $(dirname "$0")/lenet-300-100.toml --results ${1:?a folder for the runs} --seed 100,101 --threads 1 --eval-every 5"
trial() { # rate momentum batch-size flags...
  local rate=$1 momentum=$2 batch=$3; shift 3
  for pair in "2 0.0006 0.002" "3 0.00038 0.00065" "4 0.00036 0.0006"; do
    set -- $pair "${@:1}"
    local strengths=$(awk -v a=$2 -v b=$3 -v r=$rate -v m=$momentum -v n=$batch \
      'BEGIN { f = 3 * (1 - m) / r * n / 128; printf "%.4g,%.4g", a * f, b * f }')
    local depth=$1; shift 3
    dwfbench run $C --method dwf --depth $depth --lr $rate --momentum $momentum --batch-size $batch --strength $strengths "$@"
  done
}
trial 0.3 0.9 128 --clip-norm 1 --seed 100,101,102,103,104
trial 0.3 0.9 128 --seed 100,101,102,103,104
trial 0.6 0.9 128
trial 0.6 0.9 128 --warmup-epochs 1
trial 0.6 0.9 128 --warmup-epochs 3
trial 0.6 0.9 128 --clip-norm 1
trial 0.6 0.9 128 --clip-norm 0.3
trial 0.6 0.9 128 --warmup-epochs 3 --clip-norm 1
trial 1.2 0.9 128
trial 1.2 0.9 128 --warmup-epochs 3 --clip-norm 1
trial 6 0 128
trial 0.3 0.95 128
trial 0.6 0.9 64
trial 0.6 0.9 512
trial 0.6 0.9 128 --min-abs 1e-4
trial 0.6 0.9 128 --min-abs 1e-2
trial 0.6 0.9 128 --rescale-init
