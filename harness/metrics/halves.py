"""The two halves of an evaluation set: one to choose settings on, one to report."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def choosing_half(instructions: Sequence[str]) -> npt.NDArray[np.bool_]:
    """True for about half of the instructions, by a hash of their text: the same half in every study and run.

    Whatever is chosen on these (alpha, say) is reported on the others: the best of several numbers on the instructions
    that chose it is too good.
    """
    digests = (hashlib.sha256(f"choose alpha:{text}".encode()).digest() for text in instructions)
    return np.array([digest[0] % 2 == 0 for digest in digests], dtype=np.bool_)
