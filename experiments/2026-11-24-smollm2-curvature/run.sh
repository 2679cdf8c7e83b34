#!/usr/bin/env bash
# Trace, top eigenvalue and logit slope of SmolLM2-135M after noise at alpha 15: run.sh ALPACA_JSON [OUTPUT_DIR] [SEEDS]
# Finished runs are skipped, so calls for different seeds may run side by side; experiments.probed reads what is finished.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${2:-runs/smollm2-curvature}
common=(model=smollm2_135m_pip dataset=alpaca "dataset.path=$1" dataset.seed=139 dataset.heldout=16 dataset.size=64 dataset.max_length=192
    train=finetune train.epochs=1 train.batch_size=4 train.warmup_ratio=0.0 train.log_every=1 train.checkpoint_every=0 train.keep_model=false
    "stages=[train,probe]" tracking=disabled "output_dir=$output" probe.examples=16 "probe.distributions=[rademacher]" "probe.radii=[5.0,15.0]"
    probe.hessian_examples=6 probe.trace_directions=2 probe.power_iterations=6 probe.overfitting_examples=16 probe.memorisation_examples=0 probe.max_tokens=512)
# The model before training: one step that moves nothing.
python -m harness noise=none seed=0 train.lr=1e-30 train.max_steps=1 "${common[@]}"
python -m harness -m noise=none,symnoise_matched,neftune_x2,symnoise,neftune alpha=15 "seed=${3:-0,1,2,3}" train.lr=2e-4 "${common[@]}"
python -m experiments.probed "$output" "$here" --primary curvature/rademacher/15,logit_slope/rademacher/5,mean_curvature,top_eigenvalue
