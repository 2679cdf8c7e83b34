#!/usr/bin/env bash
# SmolLM2-135M on real Alpaca and ShareGPT rows, full and LoRA:
# run.sh ALPACA_JSON SHAREGPT_JSON ALPACA_EVAL_JSON [OUTPUT_DIR] [SWEEP ...]   (sweeps: alpaca-full alpaca-lora sharegpt-full sharegpt-lora)
# NOISES=none,neftune run.sh ... does a part; finished runs are skipped.
set -euo pipefail
declare -A file=([alpaca]=$1 [sharegpt]=$2)
questions=$3 output=${4:-runs/smollm2-alpaca-sharegpt}
sweeps=("${@:5}")
for sweep in ${sweeps[@]:-alpaca-full alpaca-lora sharegpt-full sharegpt-lora}; do
    data=${sweep%-*} method=${sweep#*-}
    # Adapters want a larger rate than whole weights.
    rate=5.0e-5; [ "$method" = lora ] && rate=2.0e-4
    python -m harness -m "noise=${NOISES:-none,neftune,symnoise}" alpha=5 model=smollm2_135m_pip "dataset=$data" "dataset.path=${file[$data]}" \
        dataset.heldout=16 dataset.max_length=256 eval_set=alpaca_eval eval_set.path="$questions" eval_set.limit=12 train=finetune \
        "train.method=$method" "train.lr=$rate" train.batch_size=4 train.max_steps=32 train.log_every=1 train.heldout_every=8 \
        train.checkpoint_every=16 train.precision=bf16 generate.max_new_tokens=96 "stages=[train,generate,judge]" tracking=disabled \
        output_dir="$output"
done
