"""LLaMA-Factory's own training, with the callback of the page and one that records."""

import json
import os
import sys
from pathlib import Path

from support.recorded import Record, See

arguments, record = json.loads(sys.argv[1]), Path(os.environ["RECORD"])
others = [Record(record)]


def with_our_noise() -> None:
    # snippet: llamafactory
    from llamafactory.train.tuner import run_exp

    from harness.noise import PRESETS, Noise
    from harness.noise.callback import NoiseCallback

    noise = NoiseCallback(Noise(**PRESETS["symnoise"], alpha=5.0), seed=0, verify=True)
    run_exp(arguments, callbacks=[noise, *others])
    # end


def with_its_own() -> None:
    from llamafactory.train.tuner import run_exp

    run_exp(arguments, callbacks=[See(record)])


if __name__ == "__main__":
    with_its_own() if "neftune_noise_alpha" in arguments else with_our_noise()
