#!/usr/bin/env bash
# Curvature of SmolLM2-135M after fine-tuning with and without noise: run.sh ALPACA_JSON [OUTPUT_DIR] [SEEDS] [ALPHAS]
# HESSIAN=N adds gradient, trace and top eigenvalue on N examples. Finished runs are skipped, so calls for different seeds or alphas may run side by side; experiments.probed reads what is finished.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${2:-runs/smollm2-probes}
seeds=${3:-0,1,2}
alphas=${4:-5,15}
# Data seed 139: the longest prompt of the 20 rows has 79 tokens, so that 128 tokens leave room for every answer.
common=(model=smollm2_135m_pip dataset=alpaca "dataset.path=$1" dataset.seed=139 dataset.heldout=8 dataset.size=12 dataset.max_length=128
    train=finetune train.epochs=1 train.batch_size=3 train.warmup_ratio=0.0 train.log_every=1 train.checkpoint_every=0
    "stages=[train,probe]" tracking=disabled "output_dir=$output" probe.examples=8 "probe.distributions=[rademacher]" "probe.radii=[5.0,15.0]"
    "probe.hessian_examples=${HESSIAN:-0}" probe.trace_directions=2 probe.power_iterations=4 probe.overfitting_examples=8
    probe.memorisation_examples=0 probe.max_tokens=512)
IFS=, read -ra each <<<"$seeds"
for seed in "${each[@]}"; do
    python -m harness -m noise=none,symnoise_matched,neftune_x2,symnoise,neftune alpha="$alphas" seed="$seed" train.lr=2e-4 "${common[@]}"
done
# The model before training: one step that moves nothing.
python -m harness noise=none seed=0 train.lr=1e-30 train.max_steps=1 "${common[@]}"
python -m experiments.probed "$output" "$here"
