"""python -m harness.export RUN FOLDER [--merge] [--licence ID] [--push OWNER/NAME]

RUN is a run's folder. --merge writes whole weights if the run trained an adapter.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.export.folder import export, push


def main(words: Sequence[str] | None = None, prog: str = "harness.export") -> None:
    """Entry point; exit status 2 on bad input, with one line."""
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("folder", type=Path, help="the folder to create; it must not exist")
    parser.add_argument("--merge", action="store_true", help="merge an adapter into its base model's weights")
    parser.add_argument("--licence", help="the Hub's id of the model's licence, for the card")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to this private repository on the Hub")
    arguments = parser.parse_args(words)
    try:
        export(arguments.run, arguments.folder, arguments.merge, arguments.licence)
        if arguments.push:
            print(f"{arguments.folder}: at {push(arguments.folder, arguments.push)}")
            return
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{arguments.folder}: ready; look at README.md, then: hf upload OWNER/NAME {arguments.folder}")


if __name__ == "__main__":
    main()
