"""Text to integers: SentencePiece models, tokenizer.json of Hugging Face, and a small one of ours.

A tokenizer is named by the sha256 of its file. Nothing is downloaded that was not asked for.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol, runtime_checkable

from lwd.errors import ConfigError

BUILTIN = "builtin"
"""Source of the tokenizer that comes with lwd: bytes, the simulator's words, and integers."""
_BOS = ("<bos>", "<s>", "[CLS]")
"""Names of the token that begins a text."""


@runtime_checkable
class Tokenizer(Protocol):
    """Turns a text into tokens, of which 0 is the padding."""

    @property
    def vocabulary(self) -> int:
        """Number of token ids, without special ones that were added to those of the model."""
        ...

    @property
    def sha256(self) -> str:
        """Of its file."""
        ...

    @property
    def source(self) -> str:
        """Path or URL that it came from, or `builtin`."""
        ...

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, after the one that begins it."""
        ...


class SentencePiece:
    """A SentencePiece model, such as PaliGemma's."""

    def __init__(self, data: bytes, source: str) -> None:
        from sentencepiece import SentencePieceProcessor

        self._model = SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(data)
        except RuntimeError as error:
            raise ConfigError(f"{source} is no SentencePiece model: {error}.") from error
        if self._model.bos_id() < 0:
            raise ConfigError(f"{source} has no token that begins a text; PaliGemma's has <bos>.")
        self.source, self.sha256 = source, hashlib.sha256(data).hexdigest()
        self.vocabulary: int = self._model.GetPieceSize()

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, after the one that begins it."""
        return self._model.Encode(text, add_bos=True)


class HuggingFace:
    """A tokenizer.json."""

    def __init__(self, data: bytes, source: str) -> None:
        from tokenizers import Tokenizer as Json

        try:
            self._model: Any = Json.from_buffer(data)
        except ValueError as error:
            raise ConfigError(f"{source} is no tokenizer.json: {error}.") from error
        self._model.no_truncation()
        self._model.no_padding()
        begins = [self._model.token_to_id(name) for name in _BOS]
        self._bos: int | None = next((number for number in begins if number is not None), None)
        if self._bos is None:
            raise ConfigError(f"{source} has no token that begins a text: {', '.join(_BOS)}.")
        self.source, self.sha256 = source, hashlib.sha256(data).hexdigest()
        self.vocabulary: int = self._model.get_vocab_size(with_added_tokens=False)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, after the one that begins it."""
        assert self._bos is not None
        return [self._bos, *self._model.encode(text, add_special_tokens=False).ids]


@dataclass(frozen=True)
class Within:
    """A tokenizer beside a model's table of embeddings.

    Released files add special tokens that the table has no row for (Gemma3's `<image_soft_token>`).
    ConfigError if any other token has none, or where a text has one of those.
    """

    tokenizer: Tokenizer
    rows: int
    """Of the table."""

    def __post_init__(self) -> None:
        if self.vocabulary > self.rows:
            raise ConfigError(
                f"the tokenizer from {self.source} has {self.vocabulary} tokens, the model "
                f"{self.rows}: they do not match. Give that of its language model."
            )

    @property
    def vocabulary(self) -> int:
        """Number of token ids, without special ones that were added."""
        return self.tokenizer.vocabulary

    @property
    def sha256(self) -> str:
        """Of its file."""
        return self.tokenizer.sha256

    @property
    def source(self) -> str:
        """Path or URL that it came from, or `builtin`."""
        return self.tokenizer.source

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, after the one that begins it."""
        found = self.tokenizer.encode(text)
        if max(found) >= self.rows:
            raise ConfigError(
                f"{shorten(text, 80)!r} has token {max(found)} of the tokenizer from "
                f"{self.source}, but the model has {self.rows}: say it without special tokens, or "
                "give the tokenizer of its language model."
            )
        return found


def load_tokenizer(source: str) -> Tokenizer:
    """`builtin`, or a path or URL (file://, s3://, gs://) of a SentencePiece model (.model) or of
    a tokenizer.json. ConfigError says what is wrong with it."""
    if source == BUILTIN:
        return builtin()
    kinds = {".model": SentencePiece, ".json": HuggingFace}
    kind = kinds.get(Path(source).suffix)
    if kind is None:
        raise ConfigError(
            f"tokenizer {source!r} is of no known kind; give {BUILTIN!r}, or a path or URL that "
            "ends in .model (SentencePiece) or .json (tokenizer.json)."
        )
    return kind(_bytes(source), source)


@cache
def builtin() -> Tokenizer:
    """The tokenizer that comes with lwd."""
    data = files("lwd.models.inputs").joinpath("builtin.json").read_bytes()
    return HuggingFace(data, BUILTIN)


def _bytes(source: str) -> bytes:
    if "://" not in source:
        path = Path(source).expanduser()
        if not path.is_file():
            raise ConfigError(f"tokenizer {source!r} is not there; give the path of its file.")
        return path.read_bytes()
    from obstore import get
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    folder, _, name = source.rpartition("/")
    try:
        return bytes(get(from_url(folder), name).bytes())
    except (BaseError, OSError, ValueError) as error:
        raise ConfigError(f"tokenizer {source!r} cannot be read: {error}.") from error
