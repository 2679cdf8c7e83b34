"""The repetition penalty, shared by both backends."""

from __future__ import annotations

import torch


def apply_repetition_penalty(logits_BV: torch.Tensor, history_BT: torch.Tensor, penalty: float) -> torch.Tensor:
    """Make every token id that a row has already seen less likely, once however often it was seen.

    logits_BV is float, (rows, vocabulary), and is changed in place; history_BT int64, (rows, tokens), holds each
    row's prompt and answer so far. Rows shorter than T repeat an id that they hold anyway: a second write puts the
    same value in the same place, so no padding id is ever penalised. Only the T seen logits of a row are touched,
    never the whole vocabulary.

    A positive logit is divided by `penalty`, a negative one multiplied (CTRL, 1909.05858, section 4.1, in the form
    of transformers' RepetitionPenaltyLogitsProcessor).
    """
    if penalty == 1.0:
        return logits_BV
    seen_BT = logits_BV.gather(1, history_BT)
    penalised_BT = torch.where(seen_BT < 0, seen_BT * penalty, seen_BT / penalty)
    return logits_BV.scatter_(1, history_BT, penalised_BT)
