"""Train the tokenizer of the tiny models: `python -m experiments.tiny_base.tokenizer [FOLDER]`.

Byte-level BPE with single digits and single punctuation marks: a number is as many tokens as it has digits,
and no token reaches from the last colon of a prompt into the answer. Any text survives encoding and decoding.

A model is tied to its tokenizer: after a change here every model that ships with the project is trained anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from harness.config.paths import ASSETS
from harness.data.builtin.corpus import sentences
from harness.data.builtin.items import generate
from harness.data.prompts import alpaca

FOLDER = ASSETS / "tiny_tokenizer"
VOCABULARY_SIZE = 1024
MODEL_MAX_LENGTH = 512
PAD, BOS, EOS = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")  # ids 0, 1, 2

# Words with their space, single digits, "###", single marks with their space, line ends, other white space.
_PIECES = r" ?\p{L}+|\p{N}|#+| ?[^\s\p{L}\p{N}]|\s*[\r\n]+|\s+(?!\S)|\s+"


def training_texts(items: int = 6000, statements: int = 24000) -> Iterator[str]:
    """Yield fine-tuning examples in their prompt template, then plain statements."""
    for item in generate("train", items, seed=0):
        yield alpaca(item.instruction, item.input) + item.output
    yield from islice(sentences(seed=0), statements)


def train(texts: Iterator[str]) -> Tokenizer:
    """Return a tokenizer trained on the texts; as Llama's, it puts `<bos>` before a text, nothing after."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos_id)]
    )
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and the tokenizer_config.json that transformers needs to load the folder."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MODEL_MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "pad_token": PAD,
        "bos_token": BOS,
        "eos_token": EOS,
    }
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train and save, to the folder given as the only argument or into the package."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    tokenizer = train(training_texts())
    save(tokenizer, folder)
    print(f"{tokenizer.get_vocab_size()} tokens written to {folder}")


if __name__ == "__main__":
    main()
