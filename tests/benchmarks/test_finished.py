"""The replay of a finished run."""

import pytest

from benchmarks import finished
from learner.fleet import commit, tiny


def test_the_replay_is_closed_when_the_benchmark_fails(tmp_path, monkeypatch):
    commit(tmp_path, "demo", "demo")
    closed, close = [], finished.Reader.close
    monkeypatch.setattr(finished.Reader, "close", lambda self: closed.append(close(self)))

    def fail() -> None:
        with finished.replay(tmp_path, tiny()) as reader:
            assert reader.version == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert len(closed) == 1
