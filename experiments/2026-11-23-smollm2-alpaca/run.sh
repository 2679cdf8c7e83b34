#!/usr/bin/env bash
# SmolLM2-135M on real Alpaca rows: run.sh ALPACA_JSON ALPACA_EVAL_JSON [OUTPUT_DIR]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${3:-runs/smollm2-alpaca}
python -m harness -m noise=none,neftune,symnoise alpha=5 model=smollm2_135m_pip dataset=alpaca dataset.path="$1" dataset.heldout=32 \
    eval_set=alpaca_eval eval_set.path="$2" eval_set.limit=24 train=finetune train.batch_size=4 train.max_steps=30 train.log_every=3 \
    train.checkpoint_every=0 train.precision=bf16 generate.max_new_tokens=256 output_dir="$output"
python -m experiments.collect "$output" "$here"
