"""Tokenizers of three kinds; those of others are made by their own libraries."""

import io
import json
from hashlib import sha256
from importlib.resources import files

import pytest
import sentencepiece
import tokenizers as hugging_face

from lwd.errors import ConfigError
from lwd.models.inputs.prompt import prompt
from lwd.models.inputs.tokenizers import (
    BUILTIN,
    HuggingFace,
    Tokenizer,
    Within,
    builtin,
    load_tokenizer,
)
from lwd.models.inputs.training import train_tokenizer

TEXTS = [
    "put the red can on the shelf", "pour the tea into the second cup",
    "Task: take the shoes out of the box, State: 12 255 0 128;\nAction: ",
    "open the freezer and put the meat in, one piece after the other, and close it again",
]  # fmt: skip


@pytest.fixture(scope="module")
def piece() -> bytes:
    """A SentencePiece model with the special tokens of PaliGemma's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20), model_writer=model, vocab_size=300, model_type="bpe",
        byte_fallback=True, add_dummy_prefix=False, normalization_rule_name="identity",
        remove_extra_whitespaces=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        user_defined_symbols=["\n"], minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    return model.getvalue()


def test_a_sentencepiece_model_is_read_as_it_is(piece, tmp_path):
    file = tmp_path / "paligemma_tokenizer.model"
    file.write_bytes(piece)
    tokenizer = load_tokenizer(str(file))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=piece)
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.sha256 == sha256(piece).hexdigest()
    assert tokenizer.vocabulary == theirs.get_piece_size()
    said = tokenizer.encode("pour the tea\n")
    assert said == [2, *theirs.encode("pour the tea"), *theirs.encode("\n")]
    for text in TEXTS:
        assert tokenizer.encode(text) == [2, *theirs.encode(text)]
        assert theirs.decode(tokenizer.encode(text)) == text


def test_a_tokenizer_json_is_read_as_it_is(tmp_path):
    data = train_tokenizer(TEXTS, vocabulary=400)
    file = tmp_path / "tokenizer.json"
    file.write_bytes(data)
    tokenizer, theirs = load_tokenizer(str(file)), hugging_face.Tokenizer.from_str(data.decode())
    assert tokenizer.sha256 == sha256(data).hexdigest()
    for text in TEXTS:
        assert tokenizer.encode(text) == [1, *theirs.encode(text).ids]
    assert train_tokenizer(TEXTS, vocabulary=400) == data


def test_a_url_is_read(piece, tmp_path):
    (tmp_path / "t.model").write_bytes(piece)
    tokenizer = load_tokenizer((tmp_path / "t.model").as_uri())
    assert tokenizer.sha256 == sha256(piece).hexdigest()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tokenizer((tmp_path / "other.model").as_uri())


def test_what_is_no_tokenizer_is_said(tmp_path):
    for name, message in (
        ("a.model", "a.model is no SentencePiece model"),
        ("a.json", "a.json is no tokenizer.json"),
        ("a.bin", r"is of no known kind; give 'builtin', or a path or URL"),
    ):
        (tmp_path / name).write_bytes(b"{}")
        with pytest.raises(ConfigError, match=message):
            load_tokenizer(str(tmp_path / name))
    with pytest.raises(ConfigError, match="is not there; give the path of its file"):
        load_tokenizer(str(tmp_path / "no.model"))


def test_the_builtin_one_knows_any_text_and_integers_are_one_token():
    tokenizer = load_tokenizer(BUILTIN)
    assert tokenizer is builtin()
    theirs = tokenizer._model
    for text in [*TEXTS, "stelle die rote Dose ins Regal: 世界"]:
        tokens = tokenizer.encode(text)
        assert tokens[0] == 1
        assert theirs.decode(tokens[1:]) == text
        assert max(tokens) < tokenizer.vocabulary <= 1024
    alone = [len(tokenizer.encode(f" {number}")) - 1 for number in range(256)]
    assert alone == [1] * 256
    assert len(tokenizer.encode(prompt("put the red can on the shelf", None))) < 16


def test_special_tokens_that_a_file_adds_are_no_reason_to_refuse_it():
    """Gemma3's has <image_soft_token> one past the table; other tables have room for theirs."""
    file = json.loads(files("lwd.models.inputs").joinpath("builtin.json").read_bytes())
    blank = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = {"id": 799, "content": "<image_soft_token>", "special": True, **blank}
    file["added_tokens"].append(added)
    tokenizer = HuggingFace(json.dumps(file).encode(), "gemma3/tokenizer.json")
    assert tokenizer.vocabulary == builtin().vocabulary == 799
    within, text = Within(tokenizer, 799), "look at <image_soft_token>"
    assert isinstance(within, Tokenizer)
    assert within.encode(TEXTS[0]) == builtin().encode(TEXTS[0])
    with pytest.raises(ConfigError, match=r"has token 799 .* from gemma3.*, but the model has 799"):
        within.encode(text)
    assert Within(tokenizer, 1024).encode(text) == tokenizer.encode(text)
    with pytest.raises(ConfigError, match="has 799 tokens, the model 798: they do not match"):
        Within(tokenizer, 798)


def test_the_builtin_one_never_changes():
    """Policies that were trained with it name it by this hash."""
    known = "ac6ae7bc18c6a275c30a5d5d1b3a44d7153530e9915015d6230a007128d62f4a"
    assert builtin().sha256 == known
