"""`python -m benchmarks` (make bench): the quick benchmarks, without model or data; about ten minutes on 2 cores.

Each prints a Markdown table of ratios with the machine and the commit. The full runs, with real weights and data, are
described at the top of each script.
"""

from __future__ import annotations

import subprocess
import sys

QUICK = (
    ("benchmarks.noise_cost", "--rounds", "2"),
    ("benchmarks.training", "--steps", "1", "--repeats", "1", "--contenders", "harness fp32", "HF Trainer fp32"),
)


def main() -> None:
    for module, *arguments in QUICK:
        print(f"\n## {module}\n", flush=True)
        subprocess.run([sys.executable, "-m", module, *arguments], check=True)


if __name__ == "__main__":
    main()
