"""`python -m benchmarks` (make bench): the quick benchmarks, without any download; about fifteen minutes on 2 cores.

Each prints a Markdown table of ratios, medians with their spread, with the machine and the commit. The full runs, with
real weights and data, are described at the top of each script; their records lie in benchmarks/results.
"""

from __future__ import annotations

import subprocess
import sys

QUICK = (
    ("benchmarks.training", "--steps", "1", "--repeats", "2", "--contenders", "harness fp32", "HF Trainer fp32"),
    ("benchmarks.generation", "--new-tokens", "64", "--one-by-one", "8", "--slots", "64"),
    ("benchmarks.noise_cost", "--rounds", "2"),
    ("benchmarks.sweep", "--repeats", "2"),
)


def main() -> None:
    for module, *arguments in QUICK:
        print(f"\n## {module}\n", flush=True)
        subprocess.run([sys.executable, "-m", module, *arguments], check=True)


if __name__ == "__main__":
    main()
