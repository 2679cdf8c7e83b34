#!/usr/bin/env bash
# Curvature of SmolLM2-135M after fine-tuning with and without noise: run.sh ALPACA_JSON [OUTPUT_DIR] [SEEDS]
# Two calls with different seeds may run at the same time; compare.py reads whatever is finished.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${2:-runs/smollm2-probes}
seeds=${3:-0,1,2}
common=(model=smollm2_135m_pip dataset=alpaca "dataset.path=$1" dataset.seed=139 dataset.heldout=16 dataset.size=48 dataset.max_length=128
    train=finetune train.epochs=1 train.batch_size=8 train.lr=1e-4 train.precision=bf16 train.log_every=1 train.checkpoint_every=0
    train.keep_model=false "stages=[train,probe]" tracking=disabled "output_dir=$output"
    probe.examples=16 "probe.distributions=[rademacher]" "probe.radii=[5.0,15.0]" probe.hessian_examples=6 probe.power_iterations=4
    probe.overfitting_examples=16 probe.memorisation_examples=0 probe.max_tokens=512)
# The model before training: the only step of a warm-up has learning rate 0.
python -m harness noise=none seed=0 "${common[@]}" train.max_steps=1
IFS=, read -ra each <<<"$seeds"
for seed in "${each[@]}"; do
    python -m harness -m noise=none,symnoise_matched,neftune_x2,symnoise,neftune alpha=5,15 seed="$seed" "${common[@]}"
done
python "$here/compare.py" "$output"
