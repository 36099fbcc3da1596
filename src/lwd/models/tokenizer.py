"""Words to integers, the same on learner and robot, without JAX."""

import hashlib
import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from lwd.errors import ConfigError

WORDS = 509
"""Hash buckets; a prime, so that similar checksums spread."""
LENGTH = 16
"""Tokens per instruction."""
VOCABULARY = WORDS + 1
"""Token ids, 0 being the padding."""

INDICATORS = {True: "advantage positive", False: "advantage negative"}
"""What RECAP says after an instruction. They are words like any other, so the tokens of old
instructions, the vocabulary and the hash stay what they are; that a policy is to be told them is
part of how it acts, which a robot that does not know it refuses."""

TOKENIZER_HASH = hashlib.sha256(f"word-crc32/{WORDS}/{LENGTH}".encode()).hexdigest()
"""Names this tokenizer; a policy records it and a robot compares."""


def tokenize(instructions: Sequence[str]) -> np.ndarray:
    """Instructions to [batch, LENGTH] int32: one hashed token per word, padded with 0."""
    tokens = np.zeros((len(instructions), LENGTH), np.int32)
    for row, instruction in zip(tokens, instructions, strict=True):
        words = re.findall(r"[a-z0-9]+", instruction.lower())
        if not 0 < len(words) <= LENGTH:
            raise ConfigError(
                f"instruction {instruction!r} has {len(words)} words; 1 to {LENGTH} are expected."
            )
        row[: len(words)] = [crc32(word.encode()) % WORDS + 1 for word in words]
    return tokens
