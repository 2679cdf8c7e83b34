#!/usr/bin/env bash
# usage: run.sh RUNS [ALPACA.json]: what noise does to the gradient of a batch, before and after fine-tuning; of SmolLM2, too, where its data are given.
# Finished runs are skipped; the folder's tables and figures are written anew.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) runs=$1 alpaca=${2:-}
common=(noise=none 'stages=[train,probe]' probe=gradient_noise tracking=disabled harness.workers=1)
python -m harness "${common[@]}" "output_dir=$runs/tiny" probe.gradient.twos=8 probe.gradient.draws=1
if [ -n "$alpaca" ]; then
    # Batches of two: the shares do not depend on the batch, and the twos are what intervals rest on.
    python -m harness "${common[@]}" "output_dir=$runs/smollm2" model=smollm2_135m_pip dataset=local "dataset.path=$alpaca" dataset.size=320 dataset.heldout=100 \
        dataset.max_length=160 dataset.clean.long_prompts=drop eval_set=builtin judge=reference train=finetune train.lr=5.0e-5 train.batch_size=16 train.epochs=1 \
        train.precision=bf16 train.checkpoint_every=10 probe.gradient.twos=6 probe.gradient.batch_size=2 probe.gradient.draws=1
fi
for each in "$runs"/*/; do
    drawn=$(mktemp -d)
    python -m analysis figures "$each" -o "$drawn" --only gradient
    cp "$drawn/gradient.png" "$here/gradient-$(basename "$each").png"
    python -c "
import json, sys; from pathlib import Path; from experiments.collect import machine
Path(sys.argv[2]).write_text(json.dumps(machine(Path(sys.argv[1])), indent=1) + '\n')" "$(ls -d "$each"*/ | head -1)" "$here/machine-$(basename "$each").json"
done
python -m analysis table gradient_noise "$runs"/*/ --format markdown -o "$here/table.md"
python -m analysis table gradient_noise "$runs"/*/ --format csv -o "$here/gradient.csv"
