import pytest

from lwd.errors import ConfigError
from lwd.models.tokenizer import LENGTH, VOCABULARY, tokenize


def test_words_do_not_depend_on_case_or_punctuation():
    one, two = tokenize(["Put the red can, please!", "put the red can please"])
    assert (one == two).all()
    assert (one[:5] > 0).all()
    assert (one[5:] == 0).all()
    assert one.max() < VOCABULARY


def test_each_word_has_its_own_token_in_the_tasks_vocabulary():
    words = ["red", "green", "blue", "yellow", "can", "box", "bottle", "shelf", "freezer"]
    tokens = [int(row[0]) for row in tokenize(words)]
    assert len(set(tokens)) == len(words)


@pytest.mark.parametrize("bad", ["", "...", " ".join(["word"] * (LENGTH + 1))])
def test_an_instruction_that_does_not_fit_is_refused_with_its_length(bad):
    with pytest.raises(ConfigError, match="words; 1 to 16"):
        tokenize([bad])
