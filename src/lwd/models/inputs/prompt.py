"""The prompt of pi0.5: the instruction and, as integers, the state."""

import numpy as np

BINS = 256
"""Bins of a state dimension over [-1, 1]; below is -1, above is the last."""
TEMPLATE = "Task: {task}, State: {state};\nAction: "
"""As in openpi; the checkpoints were trained with it."""
TEMPLATE_WITHOUT_STATE = "{task}\n"
"""What openpi says where the state is not part of the prompt."""


def discretise(state: np.ndarray) -> np.ndarray:
    """[..., state] in network units to integers -1 .. 255."""
    return np.digitize(state, np.linspace(-1, 1, BINS + 1)[:-1]) - 1


def prompt(instruction: str, state: np.ndarray | None) -> str:
    """Text for one instruction and one normalised state [state], or without a state."""
    task = instruction.strip().replace("_", " ").replace("\n", " ")
    if state is None:
        return TEMPLATE_WITHOUT_STATE.format(task=task)
    return TEMPLATE.format(task=task, state=" ".join(map(str, discretise(state))))
