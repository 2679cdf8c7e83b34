#!/usr/bin/env bash
# usage: run.sh RUNS ALPACA.json [tiny|smollm2]: what noise does to the gradient of a batch, before and after fine-tuning.
set -euo pipefail
runs=$1 alpaca=$2 which=${3:-tiny smollm2}
common=(noise=none 'stages=[train,probe]' probe=gradient_noise tracking=disabled "output_dir=$runs" harness.workers=1)
for each in $which; do
    case $each in
        tiny) python -m harness "${common[@]}" probe.gradient.twos=16 probe.gradient.draws=4 ;;
        smollm2)
            # 32 documents in batches of two: the shares do not depend on the batch, and the twos are what intervals rest on.
            python -m harness "${common[@]}" model=smollm2_135m_pip dataset=local "dataset.path=$alpaca" dataset.max_length=160 \
                dataset.clean.long_prompts=drop eval_set=builtin judge=reference train.lr=5.0e-5 train.max_steps=20 train.precision=bf16 \
                probe.gradient.twos=8 probe.gradient.batch_size=2 probe.gradient.draws=1
            ;;
    esac
done
