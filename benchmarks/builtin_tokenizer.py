"""Train the tokenizer that comes with lwd on what the simulator says: `python -m
benchmarks.builtin_tokenizer` writes it and prints its size, hash and how long prompts are.

A new file is a new tokenizer: policies that were trained with the old one refuse it by its hash.
"""

from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import numpy as np

from lwd.models.inputs.prompt import BINS, prompt
from lwd.models.inputs.tokenizers import BUILTIN, HuggingFace
from lwd.models.inputs.training import train_tokenizer
from lwd.sim.tasks import TASKS, task

VOCABULARY, SCENES = 1024, 400
"""Tokens, and scenes of each task whose instructions are learnt from."""


def instructions() -> list[str]:
    """Every wording of every task in many scenes, sorted."""
    said = set()
    for name in sorted(TASKS):
        spec = task(name)
        for seed in range(SCENES):
            layout = spec.draw(np.random.default_rng(seed), False)
            words = {"item": layout.target.name, **layout.words}
            said |= {template.format(**words) for template in spec.templates}
    return sorted(said)


def corpus() -> list[str]:
    """Instructions as prompts, with every integer of the state as often as any word."""
    said, rng = instructions(), np.random.default_rng(0)
    states = rng.uniform(-1, 1, (len(said), BINS // 4))
    return [prompt(text, state) for text, state in zip(said, states, strict=True)]


def main() -> None:
    path = Path(str(files("lwd.models.inputs").joinpath(f"{BUILTIN}.json")))
    data = train_tokenizer(corpus(), vocabulary=VOCABULARY)
    path.write_bytes(data)
    tokenizer, said = HuggingFace(data, str(path)), instructions()
    state = np.random.default_rng(1).uniform(-1, 1, 16)
    for what, lengths in (
        ("instruction", [len(tokenizer.encode(text)) for text in said]),
        (
            "prompt with 16 state dimensions",
            [len(tokenizer.encode(prompt(t, state))) for t in said],
        ),
    ):
        print(f"{what}: {min(lengths)} to {max(lengths)} tokens, {len(lengths)} texts")
    print(f"{path}: {len(data)} bytes, {tokenizer.vocabulary} tokens, {sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
