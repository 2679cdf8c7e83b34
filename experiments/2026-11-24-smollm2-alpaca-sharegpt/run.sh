#!/usr/bin/env bash
# SmolLM2-135M on real Alpaca and ShareGPT rows, full and LoRA:
# run.sh ALPACA_JSON SHAREGPT_JSON ALPACA_EVAL_JSON [OUTPUT_DIR] [SWEEP ...]   (sweeps: alpaca-full alpaca-lora sharegpt-full sharegpt-lora)
set -euo pipefail
declare -A file=([alpaca]=$1 [sharegpt]=$2)
questions=$3 output=${4:-runs/smollm2-alpaca-sharegpt}
sweeps=("${@:5}")
for sweep in ${sweeps[@]:-alpaca-full alpaca-lora sharegpt-full sharegpt-lora}; do
    data=${sweep%-*} method=${sweep#*-}
    # One prompt of the Alpaca rows has 208 tokens. Adapters want a larger rate than whole weights.
    length=320; [ "$data" = sharegpt ] && length=160
    rate=5.0e-5 steps=12 every=4; [ "$method" = lora ] && rate=2.0e-4 steps=20 every=5
    python -m harness -m noise=none,neftune,symnoise alpha=5 model=smollm2_135m_pip "dataset=$data" "dataset.path=${file[$data]}" \
        dataset.heldout=16 "dataset.max_length=$length" eval_set=alpaca_eval eval_set.path="$questions" eval_set.limit=12 train=finetune \
        "train.method=$method" "train.lr=$rate" train.batch_size=8 "train.max_steps=$steps" train.log_every=1 "train.heldout_every=$every" \
        train.checkpoint_every=10 train.precision=bf16 generate.max_new_tokens=96 tracking=disabled output_dir="$output"
done
