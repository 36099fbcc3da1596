"""A small tokenizer of one's own, for models that start from nothing."""

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as FromBytes
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

SPECIAL = ["<pad>", "<bos>"]
"""Padding, which is 0, and what begins a text."""


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> bytes:
    """A tokenizer.json with byte-level pairs, so that any text has tokens; the same texts give the
    same bytes with the same version of `tokenizers`."""
    tokenizer = Tokenizer(BPE())
    # Attributes of a class of Rust.
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)  # pyright: ignore
    tokenizer.decoder = FromBytes()  # pyright: ignore
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )  # pyright: ignore
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str().encode()
