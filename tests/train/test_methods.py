"""Each regulariser against its equations, written out document by document in float64; layouts, zero strength, cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
from accelerate import Accelerator
from support.commands import ROOT
from support.tiny_models import random_documents, tiny_model
from torch import Tensor

from harness.config import NoiseConfig
from harness.config.train import PairMode
from harness.data.batching import Document, micro_batches
from harness.models.attention import packed_attention
from harness.noise import Noise, noise_generators
from harness.train.loss import ResponseLoss
from harness.train.methods import MicroBatch, method_of
from harness.train.noise import TrainingNoise

SEED, STEP, ALPHA = 3, 7, 0.8
Logits = Callable[[Tensor | None], Tensor]

SETTINGS: dict[str, dict] = {
    "noise": {"distribution": "none"},
    "r3f": {"r3f": {"weight": 0.7}},
    "rdrop": {"rdrop": {"weight": 0.7}},
    "freelb": {"freelb": {"steps": 3, "step_size": 0.9}},
    "vat": {"distribution": "gaussian", "vat": {"weight": 0.7, "steps": 2, "probe": 0.1}},
    "smart": {"distribution": "gaussian", "smart": {"weight": 0.7, "steps": 2, "step_size": 0.4, "start": 0.5}},
    "sam": {"distribution": "none", "sam": {"rho": 0.3}},
}
# "own" is whatever the user brings: tests/pipeline/test_outside.py.
METHODS = [name for name in NoiseConfig.methods() if name != "own"]
# Without strength there is nothing but the cross-entropy left.
IDLE: dict[str, tuple[dict, float]] = {
    "r3f": ({}, 0.0),
    "rdrop": ({"distribution": "dropout", "rate": 0.0}, ALPHA),
    "freelb": ({}, 0.0),
    "vat": ({}, 0.0),
    "smart": ({}, 0.0),
    "sam": ({"sam": {"rho": 0.0}}, ALPHA),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Bench:
    """A tiny Llama and one optimiser step of a method on it, as the training loop makes it."""

    def __init__(self, dtype: torch.dtype = torch.float64, **changes: float) -> None:
        self.model = tiny_model("llama", dtype, **changes)
        if dtype == torch.float64:
            _norm_in_float64(self.model)
        self.objective = ResponseLoss(self.model)
        self.documents = random_documents((9, 5, 7))

    def step(
        self,
        name: str,
        layout: str = "packed",
        alpha: float = ALPHA,
        rows: int | None = None,
        mode: PairMode = "concat",
        **changes: object,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(objective, penalty) and the gradients."""
        config = NoiseConfig(name=name, method=name, **{**SETTINGS[name], **changes})
        pair = "independent" if name == "rdrop" else config.pair
        noise = Noise(config.distribution, alpha, pair=pair, rate=config.rate)
        batches = micro_batches(self.documents, layout=layout, max_rows=rows)
        share = 1 / sum(batch.n_targets for batch in batches)
        self.model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        method = method_of(config, Accelerator(cpu=True), self.objective, mode)
        source = TrainingNoise(noise, SEED, self.model.get_input_embeddings(), stream=method.noise_stream)
        source.measure = True

        def accumulate() -> Tensor:
            losses = torch.zeros(2, dtype=torch.float64)
            for number, batch in enumerate(batches):
                last = number == len(batches) - 1
                losses += method.backward(MicroBatch(batch, source.of(batch, STEP), share, last))
            return losses

        with packed_attention(self.model) if layout == "packed" else nullcontext():
            losses = method.step(accumulate)
        self.realised = source.last
        return losses, {name: parameter.grad for name, parameter in self.model.named_parameters()}

    # What follows is the definition: one document at a time, no packing, no hooks.

    def reference(self, name: str) -> tuple[float, dict[str, Tensor]]:
        targets = sum(int((each.labels[1:] != -100).sum()) for each in self.documents)
        self.model.zero_grad(set_to_none=True)
        if name == "sam":
            return self._sam(targets)
        total = sum(_DEFINITIONS[name](self, document) for document in self.documents) / targets
        total.backward()
        return total.item(), {name: parameter.grad for name, parameter in self.model.named_parameters()}

    def function(self, document: Document) -> Logits:
        """delta (L, d) -> log-probabilities at the labelled positions."""
        where = torch.from_numpy(document.labels[1:] != -100)

        def logits(delta: Tensor | None) -> Tensor:
            embeddings = self.model.get_input_embeddings()(torch.from_numpy(document.input_ids))
            moved = embeddings if delta is None else embeddings + delta
            return self.model(inputs_embeds=moved[None]).logits[0, :-1][where].log_softmax(-1)

        return logits

    def nll(self, document: Document, log_p: Tensor) -> Tensor:
        targets = torch.from_numpy(document.labels[1:])
        targets = targets[targets != -100]
        return -log_p[torch.arange(len(targets)), targets].sum()

    def noise(self, document: Document, stream: int, distribution: str = "uniform", draws: int = 1) -> list[Tensor]:
        """alpha / sqrt(L d) u, from the document's own generator."""
        (generator,) = noise_generators(SEED, STEP, [(document.index, stream)])
        shape = (len(document), self.model.config.hidden_size)
        drawn = []
        for _ in range(draws):
            entries = torch.empty(shape, dtype=torch.float64)
            if distribution == "uniform":
                entries.uniform_(-1, 1, generator=generator)
            else:
                entries.normal_(generator=generator)
            drawn.append(entries * ALPHA / math.sqrt(math.prod(shape)))
        return drawn

    def _sam(self, targets: int) -> tuple[float, dict[str, Tensor]]:
        def loss() -> Tensor:
            return sum(self.nll(each, self.function(each)(None)) for each in self.documents) / targets

        parameters = dict(self.model.named_parameters())
        at_w = loss()
        gradients = torch.autograd.grad(at_w, list(parameters.values()))
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        with torch.no_grad():
            for parameter, gradient in zip(parameters.values(), gradients, strict=True):
                parameter += SETTINGS["sam"]["sam"]["rho"] * gradient / norm
        climbed = torch.autograd.grad(loss(), list(parameters.values()))
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(before[name])
        return at_w.item(), dict(zip(parameters, climbed, strict=True))


def _norm_in_float64(model: torch.nn.Module) -> None:
    """Llama's own norm computes in float32, whatever the model's type: 1e-7 in every comparison."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ == "LlamaRMSNorm":
                exact = torch.nn.RMSNorm(len(child.weight), child.variance_epsilon, dtype=torch.float64)
                exact.weight = child.weight
                setattr(parent, name, exact)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum()


def _r3f(bench: Bench, document: Document) -> Tensor:
    f, (e,) = bench.function(document), bench.noise(document, 1)
    clean, noised = f(None), f(e)
    return bench.nll(document, clean) + 0.7 * (kl(clean, noised) + kl(noised, clean))


def _rdrop(bench: Bench, document: Document) -> Tensor:
    f, (first, second) = bench.function(document), bench.noise(document, 2, draws=2)
    one, two = f(first), f(second)
    both = bench.nll(document, one) + bench.nll(document, two)  # Equation 2
    return (both + 0.7 * (kl(one, two) + kl(two, one)) / 2) / 2  # Equations 3 and 4, halved


def _freelb(bench: Bench, document: Document) -> Tensor:
    f, (delta,) = bench.function(document), bench.noise(document, 3)
    total = torch.zeros((), dtype=torch.float64)
    for _ in range(3):
        delta = delta.detach().requires_grad_()
        loss = bench.nll(document, f(delta))
        total = total + loss / 3
        (gradient,) = torch.autograd.grad(loss, delta, retain_graph=True)
        delta = delta.detach() + 0.9 * ALPHA * gradient / gradient.norm()
        if delta.norm() > ALPHA:
            delta = delta * ALPHA / delta.norm()
    return total


def _vat(bench: Bench, document: Document) -> Tensor:
    f, (direction,) = bench.function(document), bench.noise(document, 4, "gaussian")
    clean = f(None)
    for _ in range(2):
        r = (0.1 * ALPHA * direction / direction.norm()).requires_grad_()
        (direction,) = torch.autograd.grad(kl(clean.detach(), f(r)), r)
    moved = f(ALPHA * direction / direction.norm())
    return bench.nll(document, clean) + 0.7 * kl(clean.detach(), moved)


def _smart(bench: Bench, document: Document) -> Tensor:
    f, (delta,) = bench.function(document), bench.noise(document, 5, "gaussian")
    epsilon = ALPHA / math.sqrt(delta.numel())
    clean, delta = f(None), 0.5 * delta
    for _ in range(2):
        delta = delta.detach().requires_grad_()
        moved = f(delta)
        (gradient,) = torch.autograd.grad(kl(clean.detach(), moved) + kl(moved, clean.detach()), delta)
        delta = (delta + 0.4 * epsilon * gradient / gradient.abs().max()).clamp(-epsilon, epsilon)
    moved = f(delta.detach())
    return bench.nll(document, clean) + 0.7 * (kl(clean, moved) + kl(moved, clean))


_DEFINITIONS = {"r3f": _r3f, "rdrop": _rdrop, "freelb": _freelb, "vat": _vat, "smart": _smart}


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor], relative: float) -> None:
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= relative * gradient.norm(), name


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradient_are_those_of_the_paper(name, bench):
    loss, gradients = bench.reference(name)
    gradients = {key: value.clone() for key, value in gradients.items()}
    # Packed in one row, padded, a micro-batch per document. float64 leaves rounding of 1e-15, which the normalised
    # gradients of a KL near 0 amplify.
    for layout, rows in (("packed", None), ("padded", None), ("packed", 1), ("padded", 2)):
        losses, ours = bench.step(name, layout, rows=rows)
        assert float(losses[0]) == pytest.approx(loss, rel=1e-12)
        assert_equal(ours, gradients, 1e-10)
        if name != "sam":
            assert bench.realised.noised_padding == 0


@pytest.mark.parametrize("name", METHODS)
def test_without_strength_it_is_plain_training(name, bench):
    plain, expected = bench.step("noise")
    changes, alpha = IDLE[name]
    losses, gradients = bench.step(name, alpha=alpha, **changes)
    assert losses.tolist() == pytest.approx([float(plain[0]), 0.0], abs=1e-12)
    assert_equal(gradients, expected, 1e-12)  # other order of summation, float64


@pytest.mark.parametrize("pair", ["antithetic", "independent"])
def test_a_pair_in_two_passes_is_the_pair_in_one(pair, bench):
    settings = {"distribution": "rademacher", "pair": pair, "rows": 2}
    together, expected = bench.step("noise", **settings)
    apart, gradients = bench.step("noise", mode="sequential", **settings)
    plain, _ = bench.step("noise")
    assert apart.tolist() == pytest.approx(together.tolist(), rel=1e-12)
    assert float(together[0]) != pytest.approx(float(plain[0]), rel=1e-3)
    assert_equal(gradients, expected, 1e-10)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("freelb", "sam")])
def test_the_penalty_is_what_the_weight_multiplies(name, bench):
    changed = {name: {**SETTINGS[name][name], "weight": 1.4}}
    (loss, penalty), _ = bench.step(name)
    (twice, twice_penalty), _ = bench.step(name, **changed)
    assert float(penalty) > 0
    assert float(twice_penalty) == pytest.approx(2 * float(penalty), rel=1e-12)
    assert float(twice - loss) == pytest.approx(float(penalty), rel=1e-9)


@pytest.mark.parametrize("name", ["vat", "smart", "freelb"])
def test_adversarial_perturbations_have_their_size(name, bench):
    bench.step(name)
    norms = bench.realised.norm.flatten()
    if name == "vat":
        assert norms.tolist() == pytest.approx([ALPHA] * 3)
    else:
        assert (norms > 0.2 * ALPHA).all()
        assert (norms <= ALPHA * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", ["noise", *METHODS])
def test_passes_are_counted_as_they_happen(name, bench):
    """Rows that enter and gradients that leave the first layer, per document."""
    entered, left = [], []

    def watch(_module: object, args: tuple[Tensor, ...], _kwargs: object, output: Tensor) -> None:
        entered.append(args[0].shape[0])
        if output.requires_grad:
            output.register_hook(lambda gradient: left.append(gradient.shape[0]))

    handle = bench.model.model.layers[0].register_forward_hook(watch, with_kwargs=True)
    bench.step(name, "padded")
    handle.remove()
    cost = NoiseConfig(name=name, method=name, **SETTINGS[name]).cost
    assert sum(entered) == cost.forwards * 3
    assert sum(left) == (cost.backwards + cost.input_backwards) * 3


@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_finite_in_single_precision_and_weights_stay(name):
    bench = Bench(torch.float32)
    before = {key: value.clone() for key, value in bench.model.state_dict().items()}
    losses, gradients = bench.step(name, alpha=5.0)
    assert losses.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert all(torch.equal(value, before[key]) for key, value in bench.model.state_dict().items())


def test_adversarial_methods_see_one_dropout_and_the_others_fresh_ones():
    bench = Bench(attention_dropout=0.5)
    bench.model.config.attention_dropout = 0.5
    for layer in bench.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    penalties = {name: float(bench.step(name, alpha=0.0)[0][1]) for name in ("vat", "smart", "r3f")}
    assert penalties["vat"] == penalties["smart"] == 0.0
    assert penalties["r3f"] > 0.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["noise=r3f", "noise.pair=antithetic"], "noise.pair=antithetic has no effect with noise.method=r3f"),
        (["noise=vat", "noise.where=prompt"], "noise.where=prompt has no effect with noise.method=vat"),
        (["noise=sam", "noise.distribution=uniform"], "noise.distribution=uniform: noise.method=sam needs none"),
        (["noise=r3f", "noise.distribution=none"], "noise.distribution=none: noise.method=r3f needs a noise"),
        (["noise=smart", "noise.distribution=dropout"], "noise.method=smart needs uniform, gaussian or rademacher"),
        (["noise=neftune", "noise.method=vat"], "noise.vat is missing with noise.method=vat"),
        (["noise=vat", "noise.method=noise"], "noise.vat has no effect with noise.method=noise"),
        (["noise=neftune", "noise.rate=0.1"], "noise.rate=0.1 has no effect"),
        (["noise=vat", "noise.vat.probe=0"], "noise.vat.probe=0: input should be greater than 0"),
        (["noise=vat", "noise.method=adversary"], "noise.method='adversary': choose from noise, r3f, rdrop, freelb,"),
    ],
)
def test_keys_without_effect_are_refused(overrides, message, compose):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        compose(*overrides)


def test_every_method_has_a_section_a_file_a_preset_and_a_row_here():
    names = {path.stem for path in (ROOT / "conf" / "noise").glob("*.yaml")}
    streams = [
        type(method_of(_config(name), Accelerator(cpu=True), torch.nn.Identity())).noise_stream for name in METHODS
    ]
    assert set(METHODS) <= names
    assert set(SETTINGS) == {"noise", *METHODS}
    assert len(set(streams)) == len(METHODS)
    assert None not in streams


def _config(name: str) -> NoiseConfig:
    return NoiseConfig(name=name, method=name, **SETTINGS[name])


def test_alpha_counts_where_the_method_uses_it(compose):
    used = {name: compose(f"noise={name}", "alpha=15").alpha for name in METHODS}
    assert used == {"r3f": 15.0, "rdrop": 0.0, "freelb": 15.0, "vat": 15.0, "smart": 15.0, "sam": 0.0}
