from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch
from support.tiny_models import random_documents, tiny_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from experiments.tiny_base.precision import bf16_supported
from harness.data.batching import Batch, micro_batches
from harness.models.attention import packed_attention
from harness.models.load import checkpoint_layers
from harness.train import loss as loss_module
from harness.train.loss import LogitTransform, ResponseLoss, document_losses, response_loss

PACKED = ["llama", "qwen2", "gemma", "gpt_neox", "opt", "mistral", "mixtral", "granite", "cohere"]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows of logits at a time, so that every test crosses the borders of chunks."""
    monkeypatch.setattr(loss_module, "_CHUNK_LOGITS", {"cpu": 3 * 97, "cuda": 3 * 97})


def gradients(model: PreTrainedModel, loss: Tensor) -> Tensor:
    """All gradients as one vector."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, parameters)])


def reference(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean loss and gradients as transformers computes them: padded, every logit, labels shifted inside."""
    loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
    return loss, gradients(model, loss)


def reference_float64(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """The same from the model's own logits: transformers' loss rounds them to float32."""
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten())
    return loss, gradients(model, loss)


def ours(model: PreTrainedModel, batches: list[Batch]) -> tuple[Tensor, Tensor]:
    """The same by ResponseLoss, summed over micro-batches."""
    objective = ResponseLoss(model)
    with packed_attention(model) if batches[0].layout == "packed" else nullcontext():
        parts = [objective(batch) for batch in batches]
        count = sum(int(part[1]) for part in parts)
        loss = torch.stack([part[0] for part in parts]).sum() / count
        assert count == sum(batch.n_targets for batch in batches)
        return loss, gradients(model, loss)


def relative(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).detach().norm() / expected.detach().norm())


@pytest.mark.parametrize(("name", "layout"), [*itertools.product(PACKED, ["packed", "padded"]), ("gemma2", "padded")])
def test_gradients_equal_the_plain_padded_reference(name: str, layout: str) -> None:
    model = tiny_model(name)
    documents = random_documents(prompt=2)
    (whole,) = micro_batches(documents, layout="padded")
    expected, expected_gradients = reference(model, whole)
    loss, ours_gradients = ours(model, micro_batches(documents, layout=layout, max_tokens=14))
    # float32, other order of summation.
    assert relative(loss, expected) < 1e-6
    assert relative(ours_gradients, expected_gradients) < 1e-5


@pytest.mark.parametrize("name", ["gpt_neox", "opt", "llama", "gemma", "qwen2"])
def test_gradients_equal_the_reference_in_float64(name: str) -> None:
    """Every token labelled: the first token of a document must not be predicted from the document before."""
    model = tiny_model(name, torch.float64)
    documents = random_documents(prompt=0)
    (whole,) = micro_batches(documents, layout="padded")
    expected, expected_gradients = reference_float64(model, whole)
    loss, ours_gradients = ours(model, micro_batches(documents, layout="packed"))
    assert relative(loss, expected) < 1e-10
    assert relative(ours_gradients, expected_gradients) < 1e-10


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_batch_twice_equals_two_passes(layout: str) -> None:
    model = tiny_model("llama", torch.float64)
    batches = micro_batches(random_documents(), layout=layout)
    once, once_gradients = ours(model, batches)
    twice, twice_gradients = ours(model, [batch.repeat(2) for batch in batches])
    assert relative(twice, once) < 1e-12
    assert relative(twice_gradients, once_gradients) < 1e-12


def test_the_copies_of_a_repeated_batch_may_differ() -> None:
    """As in a pair: other embeddings in the second copy give the sum of two separate losses."""
    model = tiny_model("llama", torch.float64)
    objective = ResponseLoss(model)
    (batch,) = micro_batches(random_documents(), layout="packed")
    noise = torch.randn(1, batch.input_ids.shape[1], 32, dtype=torch.float64)

    def loss_with(batch: Batch, noise: Tensor) -> Tensor:
        hook = model.get_input_embeddings().register_forward_hook(lambda _module, _ids, output: output + noise)
        with packed_attention(model):
            loss = objective(batch)[0]
        hook.remove()
        return loss

    pair = loss_with(batch.repeat(2), torch.cat([noise, -noise]))
    parts = [loss_with(batch, noise), loss_with(batch, -noise)]
    assert relative(parts[0], parts[1]) > 1e-3
    assert relative(pair, parts[0] + parts[1]) < 1e-12


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_losses_per_document_equal_those_of_the_documents_alone(layout: str) -> None:
    model = tiny_model("llama", torch.float64)
    objective = ResponseLoss(model)
    documents = random_documents((9, 5, 2))  # the last has a prompt only: no target, loss 0
    (batch,) = micro_batches(documents, layout=layout)
    with packed_attention(model) if layout == "packed" else nullcontext():
        sums, counts = objective(batch, per_document=True)
    for place, index in enumerate(batch.documents):
        (alone,) = micro_batches([documents[index]], layout="padded")
        expected, count = objective(alone)
        assert counts[place] == count == alone.n_targets
        torch.testing.assert_close(sums[place], expected, rtol=1e-12, atol=1e-12)
    assert sums[2] == 0


def plain_loss(hidden: Tensor, targets: Tensor, head: nn.Module, transform: LogitTransform) -> Tensor:
    return functional.cross_entropy(transform(head(hidden)).flatten(0, 1), targets.flatten(), reduction="sum")


HEADS = [
    (False, LogitTransform()),
    (True, LogitTransform()),
    (True, LogitTransform(0.5)),
    (False, LogitTransform(2.0, 3.0)),
]


@pytest.mark.parametrize(("bias", "transform"), HEADS)
def test_chunked_loss_equals_the_plain_one(bias: bool, transform: LogitTransform) -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 97, bias=bias, dtype=torch.float64)
    hidden = torch.randn(2, 7, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 97, (2, 7)).masked_fill(torch.rand(2, 7) < 0.3, -100)
    ids = torch.arange(2)[:, None].expand(2, 7)
    inputs = [hidden, *head.parameters()]
    expected = plain_loss(hidden, targets, head, transform)
    summed, count = response_loss(hidden, targets, head, transform)
    sums, counts = document_losses(hidden, targets, ids, 2, head, transform)
    assert count == counts.sum() == (targets != -100).sum()
    for loss in (summed, sums.sum()):
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        # The factor stands for the division by the number of targets that the loop does.
        for mine, plain in zip(
            torch.autograd.grad(loss / 7, inputs),
            torch.autograd.grad(expected / 7, inputs, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(mine, plain, rtol=1e-11, atol=1e-13)


def test_no_more_logits_than_a_chunk_exist_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    linear = functional.linear

    def watched(hidden: Tensor, *rest: Tensor) -> Tensor:
        rows.append(len(hidden))
        return linear(hidden, *rest)

    monkeypatch.setattr("harness.train.loss.linear", watched)
    hidden = torch.randn(1, 20, 8, requires_grad=True)
    targets = torch.randint(0, 97, (1, 20)).masked_fill(torch.arange(20) < 10, -100)
    response_loss(hidden, targets, nn.Linear(8, 97))[0].backward()
    assert rows == [3, 3, 3, 1]  # of 20 positions the 10 with a target, 3 at a time, none of them twice


def test_a_summed_loss_is_differentiable_once_and_says_so() -> None:
    hidden = torch.randn(1, 4, 8, requires_grad=True)
    loss, _ = response_loss(hidden, torch.zeros(1, 4, dtype=torch.long), nn.Linear(8, 97))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        loss.backward()


def test_a_batch_without_targets_reaches_every_parameter_with_zeros() -> None:
    """Data parallelism waits for a gradient of each parameter on each rank."""
    model = tiny_model("llama")
    (batch,) = micro_batches(random_documents(), layout="packed")
    objective = ResponseLoss(model)
    with packed_attention(model):
        loss, count = objective(batch.without_targets())
        loss.backward()
    assert count == 0
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in model.parameters())


def test_gradient_checkpointing_changes_nothing() -> None:
    model = tiny_model("llama", torch.float64)
    batches = micro_batches(random_documents(), layout="packed", max_tokens=14)
    expected, expected_gradients = ours(model, batches)
    checkpoint_layers(model)
    loss, checkpointed = ours(model, batches)
    assert torch.equal(loss, expected)
    assert relative(checkpointed, expected_gradients) < 1e-14


def test_autocast_stays_near_float32_and_packing_adds_no_error() -> None:
    """bfloat16 keeps 8 bits: 3 % on a gradient, measured on a trained model; a tiny one is no better."""
    model = tiny_model("llama")
    documents = random_documents()
    exact = ours(model, micro_batches(documents, layout="padded"))
    with torch.autocast("cpu", torch.bfloat16):
        plain = reference(model, micro_batches(documents, layout="padded")[0])
        packed = ours(model, micro_batches(documents, layout="packed"))
    assert packed[0].dtype == torch.float32
    assert relative(packed[0], exact[0]) < 5e-3
    assert 1e-4 < relative(packed[1], exact[1]) < 0.1
    assert relative(packed[1], exact[1]) < 1.2 * relative(plain[1], exact[1])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's call
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "lm_head"]])
def test_lora_trains_packed_as_padded(targets: list[str]) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=targets, r=2, init_lora_weights=False)
    model = peft.get_peft_model(tiny_model("llama", torch.float64, tie_word_embeddings=False), config).double()
    documents = random_documents()
    expected, expected_gradients = reference_float64(model, micro_batches(documents, layout="padded")[0])
    loss, ours_gradients = ours(model, micro_batches(documents, layout="packed"))
    assert relative(loss, expected) < 1e-12
    assert relative(ours_gradients, expected_gradients) < 1e-10


def test_a_model_that_changes_its_logits_in_an_unknown_way_is_refused() -> None:
    model = tiny_model("llama")

    def scale(_module: nn.Module, _inputs: object, output: CausalLMOutputWithPast) -> None:
        output.logits = 1.01 * output.logits

    model.register_forward_hook(scale)
    with pytest.raises(ValueError, match="LlamaForCausalLM"):
        ResponseLoss(model)


def test_the_check_leaves_the_model_in_its_mode() -> None:
    assert ResponseLoss(tiny_model("llama").eval()).model.training is False
    assert ResponseLoss(tiny_model("llama").train()).model.training is True


@pytest.mark.parametrize(
    ("found", "supported"), [({"avx512_bf16": True}, True), ({"avx512_bf16": False, "avx2": True}, False)]
)
def test_bfloat16_is_claimed_only_where_the_cpu_has_it(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], supported: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert bf16_supported("cpu") is supported
    assert bf16_supported("meta") is False


@pytest.mark.parametrize(("capability", "supported"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_on_cuda_needs_capability_8(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], supported: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert bf16_supported("cuda") is supported


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("name", PACKED)
def test_a_perturbation_stands_between_the_embedding_and_the_layers(name: str, layout: str) -> None:
    """As a hook on the input embedding would put it there, to the bit: scaled (Gemma), projected (OPT), tied or not."""
    model = tiny_model(name)
    objective = ResponseLoss(model)
    (batch,) = micro_batches(random_documents(), layout=layout)
    torch.manual_seed(0)
    added = torch.randn(*batch.input_ids.shape, model.get_input_embeddings().weight.shape[1])
    with packed_attention(model) if layout == "packed" else nullcontext():
        by_argument, _ = objective(batch, perturb=lambda embeddings: embeddings + added)
        handle = model.get_input_embeddings().register_forward_hook(lambda _m, _a, output: output + added)
        by_hook, _ = objective(batch)
        handle.remove()
        clean, _ = objective(batch)
    assert torch.equal(by_argument, by_hook)
    assert torch.equal(gradients(model, by_argument), gradients(model, by_hook))
    assert not torch.equal(by_argument, clean)


def test_a_model_that_reads_the_token_ids_twice_trains_without_noise_alone() -> None:
    model = tiny_model("gemma3n_text")
    objective = ResponseLoss(model)
    (batch,) = micro_batches(random_documents(), layout="padded")
    loss, targets = objective(batch)
    torch.testing.assert_close(loss / targets, reference(model, batch)[0], rtol=1e-4, atol=0)  # float32
    with pytest.raises(ValueError, match="Gemma3nForCausalLM: it also reads the token ids, not just their embeddings"):
        objective(batch, perturb=lambda embeddings: embeddings)
