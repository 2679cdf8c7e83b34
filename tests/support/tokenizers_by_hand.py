"""Tokenizers whose tokens can be counted by hand: one token for each byte, and for each special token."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from harness.config.paths import ASSETS

CHATML_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# As Llama-2's: start and end tokens inside, messages trimmed.
INST_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def byte_tokenizer(
    *extra: str,
    eos: str = "</s>",
    bos: str | None = None,
    merges: list[tuple[str, str]] | None = None,
    template: str | None = None,
) -> Any:
    """One token per byte, plus `merges`; pad is eos, as in SmolLM2; `bos` is put before a text as in Llama's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*alphabet, *("".join(pair) for pair in merges or [])])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges or []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    special = [eos, *([bos] if bos else []), *(token for token in extra if token != eos)]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if bos:
        number = backend.token_to_id(bos)
        backend.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, number)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, pad_token=eos, bos_token=bos)
    tokenizer.chat_template = template
    return tokenizer


def metaspace_tokenizer(scheme: str, template: str | None = None) -> Any:
    """One token per character with Llama's "▁" for a space, put before the first text or before all; pad is eos."""
    characters = [chr(code) for code in range(32, 127)]
    vocabulary = {token: index for index, token in enumerate(["<unk>", "▁", "\n", *characters])}
    vocabulary["▁f"] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "f")], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)
    backend.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = template
    return tokenizer


# The one that the default models use.
TOKENIZER = AutoTokenizer.from_pretrained(ASSETS / "tiny_tokenizer")
