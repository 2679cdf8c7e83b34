"""Does the noise arrive? Watches one training forward pass, whether this package or another added the noise.

H copies of a document in a batch, B rows, L token positions, D hidden size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from harness.noise.definition import Noise
from harness.noise.distributions import draw
from harness.noise.embedding import OtherTables, input_embedding
from harness.noise.pairs import HALF
from harness.noise.statistics import mean_norms, realised_noise
from harness.noise.tokens import LAYOUT_KEYS, Tokens, tokens_of_call

# A length counts as the one used if the norms match it this closely: half a percent of sampling noise is usual.
_FITS = 0.05


@dataclass(frozen=True)
class NoiseReport:
    """What reached the model in one training forward pass.

    Attributes:
        arrives: whether any real token's embedding was changed.
        times: how often: 1 is right; 2 where two hooks, or a hook and a patched forward, each added noise.
        documents: number in the batch, the two copies of a pair counted once.
        lengths: real tokens of each document, of each copy in a pair, in order of appearance.
        norms: L2 norm of the noise of each of them.
        share: mean ratio of that norm to the norm of the document's embeddings.
        intended: the norm that alpha implies, for scale="relative" the mean over documents; None if alpha is not known.
        realised: ratio of the norm to the intended one, (smallest, mean, largest); None if that is None.
        length: "true" if L is the document's own, "row", "padded", or "unknown".
        noised: fraction of the real tokens that were changed.
        noised_padding: padding positions that were changed.
        pair: "antithetic", "independent", or "none".
        asymmetry: of an antithetic pair, norm of (e+ + e-) over that of e+.
        transformers: of transformers' own `neftune_noise_alpha` on this batch, realised over intended norm: (smallest,
            mean, largest).
        beside: tables in which the layers look the tokens up again, clean (Gemma 3n): noise cannot hide anything.
    """

    arrives: bool
    times: int
    documents: int
    lengths: tuple[int, ...]
    norms: tuple[float, ...]
    share: float
    intended: float | None
    realised: tuple[float, float, float] | None
    length: str
    noised: float
    noised_padding: int
    pair: str
    asymmetry: float | None
    transformers: tuple[float, float, float] | None
    beside: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Once, at the document's own length, nothing on padding, and no second way from a token to the layers."""
        once = self.arrives and self.times == 1
        return once and self.length == "true" and not self.noised_padding and not self.beside

    def json(self) -> str:
        """The report as a mapping, with the attributes as keys."""
        return json.dumps({**asdict(self), "right": self.right})

    def text(self) -> str:
        """The report as text, one line per question."""
        if not self.arrives:
            return "noise: NONE arrives: the embeddings of a training pass are those of evaluation"
        low, high, mean = min(self.norms), max(self.norms), sum(self.norms) / len(self.norms)
        copies, plural = "both copies of " if self.pair != "none" else "", "" if self.documents == 1 else "s"
        often = "once" if self.times == 1 else f"{self.times} TIMES"
        lines = [
            f"noise: arrives {often} in {copies}{self.documents} document{plural}",
            f"norm of a document: {mean:.3g} ({low:.3g} to {high:.3g}), {self.share:.2%} of the embeddings'",
            f"L: {_LENGTHS[self.length]}",
            f"real tokens noised: {100 * self.noised:.3g}%; padding noised: {self.noised_padding} positions",
            f"pair: {self.pair}" + ("" if self.asymmetry is None else f", |e+ + e-| / |e+| = {self.asymmetry:.1g}"),
        ]
        if self.beside:
            lines.append(f"the layers read the tokens CLEAN beside it, in {', '.join(self.beside)}")
        for name, shares in (("realised over intended norm", self.realised), ("transformers' own", self.transformers)):
            if shares is not None:
                lines.append(f"{name}: {shares[1]:.3f} ({shares[0]:.3f} to {shares[2]:.3f})")
        return "\n".join(lines)


_LENGTHS = {
    "true": "the document's own",
    "row": "all real tokens of the ROW, packed documents counted as one",
    "padded": "the width of the PADDED batch",
    "unknown": "fits neither the document, nor the row, nor the padded width",
}


def verify(
    model: Any, batch: Mapping[str, Any] | None = None, alpha: float | None = None, noise: Noise | None = None
) -> NoiseReport:
    """Watch one training forward pass of a model or a transformers Trainer, with any noise attached to it.

    Weights, gradients, modes and random state stay as they are; nothing is trained.

    Args:
        model: a module with a noise attached, or a Trainer before or after training: its NoiseCallback and its own
            `neftune_noise_alpha` are attached for the pass, on the first batch of its training data loader.
        batch: keyword arguments for the model; needed for a module.
        alpha: the requested strength; None: as the Trainer, its callback or the embedding says.
        noise: the requested noise, if its norm depends on more than alpha, as with scale="relative".

    Raises:
        ValueError: a module without a batch, or without an input embedding.
    """
    if hasattr(model, "callback_handler") and hasattr(model, "get_train_dataloader"):
        from harness.noise.callback import attached

        with torch.random.fork_rng(), attached(model) as (inner, own_batch, own_noise):
            return _watch(inner, batch or own_batch, alpha, noise or own_noise)
    if batch is None:
        raise ValueError("batch: needed to verify a model; a Trainer brings its own")
    with torch.random.fork_rng():
        return _watch(model, batch, alpha, noise)


def _watch(model: nn.Module, batch: Mapping[str, Any], alpha: float | None, noise: Noise | None) -> NoiseReport:
    watch = Watch(model, noise, alpha)
    with _in_training_mode(model), torch.enable_grad(), watch:
        model(**batch)
    return watch.report()


@contextmanager
def _in_training_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class Watch:
    """Records the first training forward pass inside `with`: what the embedding gives before, between and after hooks.

    Args:
        model: the module that is called.
        noise: the requested noise, if known.
        alpha: the requested strength, if the noise is not known.
    """

    def __init__(self, model: nn.Module, noise: Noise | None = None, alpha: float | None = None) -> None:
        self._model, self._embedding = model, input_embedding(model)
        own = getattr(self._embedding, "neftune_noise_alpha", None)
        self._noise, self._alpha = noise, noise.alpha if noise and alpha is None else own if alpha is None else alpha
        self._stages: list[Tensor] = []
        self._call: dict[str, Any] = {}
        self._ids: Tensor | None = None
        self._clean_BLD: Tensor | None = None
        self._expected = 1
        self._handles: list[Any] = []
        self._others, self._beside = OtherTables(model, self._embedding), list[str]()

    def __enter__(self) -> Watch:
        hooks = self._embedding._forward_hooks
        before = list(hooks.items())
        self._expected = 1 + len(before)
        hooks.clear()
        self._handles.append(self._embedding.register_forward_hook(self._stage, with_kwargs=True))
        for key, hook in before:
            hooks[key] = hook
            self._handles.append(self._embedding.register_forward_hook(self._stage, with_kwargs=True))
        self._handles.append(self._model.register_forward_pre_hook(self._read, with_kwargs=True, prepend=True))
        # Before an optimiser's step changes them.
        self._handles.append(self._model.register_forward_hook(self._look_up_clean))
        self._others.watch(self._beside.append)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._others.close()

    @property
    def seen(self) -> bool:
        """Whether a training pass has been seen."""
        return bool(self._stages)

    def _read(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module.training and torch.is_grad_enabled() and not self._stages:
            self._call = {"input_ids": args[0], **kwargs} if args else dict(kwargs)
            self._others.reading(self._call["input_ids"])

    def _stage(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        if not module.training or not torch.is_grad_enabled() or len(self._stages) == self._expected:
            return
        self._ids = (args[0] if args else kwargs["input"]).detach()
        self._stages.append(output.detach())

    def report(self) -> NoiseReport:
        """What the pass showed.

        Raises:
            ValueError: no training pass reached the embedding.
        """
        if not self._stages or self._clean_BLD is None:
            raise ValueError("no training forward pass reached the input embedding")
        clean_BLD = self._clean_BLD
        stages = [clean_BLD, *self._stages]
        changed = sum(not torch.equal(one, next_) for one, next_ in pairwise(stages))
        found = _report(clean_BLD, self._stages[-1], changed, self._layout(), self._halves(), self._noise, self._alpha)
        return replace(found, beside=tuple(dict.fromkeys(self._beside)))

    @torch.no_grad()
    def _look_up_clean(self, *_: object) -> None:
        """The embeddings without noise, as in evaluation."""
        if self._ids is None or self._clean_BLD is not None:
            return
        modes = [(module, module.training) for module in self._model.modules()]
        self._model.eval()
        try:
            self._clean_BLD = self._embedding(self._ids)
        finally:
            for module, mode in modes:
                module.training = mode

    def _layout(self) -> Tokens:
        """The tokens that reached the embedding: those of the call, or those twice."""
        assert self._ids is not None
        layout = {key: self._call.get(key) for key in LAYOUT_KEYS}
        times = len(self._ids) // len(self._call["input_ids"])
        grown = {
            key: value.repeat(times, 1) if isinstance(value, Tensor) and value.ndim == 2 else value
            for key, value in layout.items()
        }
        return tokens_of_call({"input_ids": self._ids, **grown})

    def _halves(self) -> Tensor | None:
        """0 and 1 for the two copies of a pair, from the batch or from how the call was doubled."""
        assert self._ids is not None
        rows = len(self._call["input_ids"])
        if HALF in self._call:
            half_BL: Tensor = self._call[HALF]
            return half_BL
        if len(self._ids) != 2 * rows:
            return None
        return (torch.arange(2 * rows, device=self._ids.device) >= rows).long()[:, None].expand_as(self._ids)


def _report(
    clean_BLD: Tensor,
    given_BLD: Tensor,
    times: int,
    tokens: Tokens,
    half_BL: Tensor | None,
    noise: Noise | None,
    alpha: float | None,
) -> NoiseReport:
    found = realised_noise(clean_BLD[None], given_BLD[None], tokens)
    norm = found.norm[0].double()
    added_BLD = given_BLD.double() - clean_BLD.double()
    pair, asymmetry = _pair(added_BLD, tokens, half_BL)
    deviation = _deviation(added_BLD, tokens, noise)
    units = torch.ones_like(norm)
    if noise is not None and noise.scale == "relative":
        units = mean_norms(clean_BLD, tokens).double().cpu()
    intended = None if alpha is None else alpha * deviation * units
    hidden = clean_BLD.shape[-1]
    return NoiseReport(
        arrives=bool(norm.sum() > 0),
        times=times,
        documents=len(norm) if half_BL is None else len(norm) // 2,
        lengths=tuple(tokens.lengths.tolist()),
        norms=tuple(norm.tolist()),
        share=float(found.ratio.mean()),
        intended=None if intended is None else float(intended.mean()),
        realised=_three(norm / intended) if alpha and intended is not None else None,
        length=_length(norm, tokens, intended, hidden),
        noised=found.noised,
        noised_padding=found.noised_padding,
        pair=pair,
        asymmetry=asymmetry,
        transformers=_of_transformers(clean_BLD, tokens, half_BL, alpha),
    )


def _three(values: Tensor) -> tuple[float, float, float]:
    return float(values.min()), float(values.mean()), float(values.max())


def _deviation(added_BLD: Tensor, tokens: Tokens, noise: Noise | None) -> float:
    """Standard deviation at width 1 of the requested noise, else of the distribution that the kurtosis suggests."""
    if noise is not None and noise.distribution in ("uniform", "gaussian", "rademacher"):
        matched = noise.scale != "raw" or noise.distribution == "uniform"
        return math.sqrt(1 / 3) if matched else 1.0
    entries = added_BLD[tokens.real_BL.to(added_BLD.device)]
    scale = entries.square().mean(-1, keepdim=True).sqrt()
    standard = entries / scale.clamp(min=torch.finfo(torch.float64).tiny)
    kurtosis = float(standard.pow(4).mean())
    return math.sqrt(1 / 3) if 1.4 < kurtosis < 2.4 else 1.0  # 1 signs, 1.8 uniform, 3 normal


def _length(norm: Tensor, tokens: Tokens, intended: Tensor | None, hidden: int) -> str:
    """The L that explains the norms best: norm = intended sqrt(L of the document / L used), up to a common factor."""
    if not float(norm.sum()):
        return "unknown"
    own = tokens.lengths.double()
    row_BL = tokens.real_BL.sum(1, keepdim=True).expand_as(tokens.real_BL)
    row = torch.zeros(len(own), dtype=torch.float64)
    row[tokens.document_BL[tokens.real_BL]] = row_BL[tokens.real_BL].double()
    used = {"true": own, "row": row, "padded": torch.full_like(own, tokens.real_BL.shape[1])}
    # A norm scatters by about 1 / sqrt(2 L d) of its value; short documents of a narrow model get that much more room.
    room = _FITS + 2 / math.sqrt(float(own.min()) * hidden)
    for name, length in used.items():
        logs = norm.clamp(min=1e-300).log() - 0.5 * (own / length).log()
        off = logs - (logs.median() if intended is None else intended.log())
        if float(off.abs().max()) < room:
            return name
    return "unknown"


def _pair(added_BLD: Tensor, tokens: Tokens, half_BL: Tensor | None) -> tuple[str, float | None]:
    """Kind of pair, and how far from symmetric it is; both halves hold the documents in the same order."""
    if half_BL is None:
        return "none", None
    first, second = ((half_BL == half).cpu() & tokens.real_BL for half in (0, 1))
    plus_ND, minus_ND = added_BLD[first.to(added_BLD.device)], added_BLD[second.to(added_BLD.device)]
    if plus_ND.shape != minus_ND.shape or not float(plus_ND.norm()):
        return "none", None
    asymmetry = float((plus_ND + minus_ND).norm() / plus_ND.norm())
    if torch.equal(plus_ND, minus_ND):
        return "none", asymmetry
    return ("antithetic" if asymmetry < 0.1 else "independent"), asymmetry


def _of_transformers(
    clean_BLD: Tensor, tokens: Tokens, half_BL: Tensor | None, alpha: float | None
) -> tuple[float, float, float] | None:
    """Ratio of realised to intended norm for uniform noise at the batch's width, as transformers' hook draws it."""
    if not alpha:
        return None
    width = clean_BLD.shape[1]
    if half_BL is not None and len(half_BL) == 1:  # a flat pair: the original batch had half the width
        width //= 2
    scale = alpha / math.sqrt(width * clean_BLD.shape[2])
    noise_BLD = draw("uniform", (*clean_BLD.shape,), scale, torch.Generator().manual_seed(0), torch.float64)
    zeros = torch.zeros_like(noise_BLD)
    norm = realised_noise(zeros[None], noise_BLD[None], tokens).norm[0]
    return _three(norm / (alpha * math.sqrt(1 / 3)))
