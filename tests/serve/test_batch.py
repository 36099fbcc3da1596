"""Batches: who is computed together, who is refused, whose trouble stays whose."""

import asyncio

import numpy as np
import pytest

from lwd.actor.robot import Observation
from lwd.serve.batch import Asked, Batcher, Limits, OverloadError
from serve.point import GoalPolicy


def asked(x: float = 1.0, instruction: str = "go") -> Asked:
    return Asked(
        observation=Observation(state=np.array([0, 0, x, x], np.float32)),
        instruction=instruction,
        rng=np.random.default_rng(0),
    )


def together(limits: Limits, requests, **options):
    """Outcomes of (policy, request) pairs that arrive at the same moment."""

    async def run():
        batcher = Batcher(limits, **options)
        running = asyncio.create_task(batcher.run())
        answers = [batcher.ask(policy, request) for policy, request in requests]
        found = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return found

    return asyncio.run(run())


def test_requests_that_come_together_are_computed_together_and_get_their_own_answers():
    policy = GoalPolicy()
    answers = together(Limits(), [(policy, asked(x)) for x in range(5)], active=lambda: 5)
    assert policy.batches == [5]
    assert [answer.chunk[0, 0] for answer in answers] == [0, 1, 2, 3, 4]
    assert {answer.together for answer in answers} == {5}
    assert all(name.startswith("inference") for name in policy.threads)


def test_a_batch_has_a_largest_size():
    policy = GoalPolicy()
    together(Limits(batch=2), [(policy, asked()) for _ in range(5)])
    assert policy.batches == [2, 2, 1]


def test_a_lone_robot_waits_for_nobody():
    policy = GoalPolicy()
    (answer,) = together(Limits(window_s=5.0), [(policy, asked())], active=lambda: 1)
    assert answer.waited_s < 2.0


def test_robots_of_different_versions_are_never_mixed():
    old, new = GoalPolicy(1), GoalPolicy(2)
    requests = [(old, asked()), (new, asked()), (old, asked()), (new, asked())]
    answers = together(Limits(), requests, active=lambda: 4)
    assert (old.batches, new.batches) == ([2], [2])
    assert all(isinstance(answer.chunk, np.ndarray) for answer in answers)


def test_a_full_queue_refuses_at_once():
    policy = GoalPolicy()
    answers = together(Limits(waiting=3), [(policy, asked()) for _ in range(5)])
    refused = [answer for answer in answers if isinstance(answer, OverloadError)]
    assert len(refused) == 2
    assert "3 requests wait, which is all that may" in str(refused[0])


def test_a_request_that_waited_too_long_is_refused():
    ticks = iter(range(100))
    policy = GoalPolicy()
    limits = Limits(deadline_s=3.5, window_s=0.0)  # looked at 4 s after the first request
    answers = together(limits, [(policy, asked())] * 2, clock=lambda: float(next(ticks)))
    assert sum(isinstance(answer, OverloadError) for answer in answers) == 1
    assert policy.batches == [1]


def test_one_bad_request_does_not_spoil_the_batch():
    policy = GoalPolicy()
    requests = [(policy, asked(instruction=word)) for word in ("go", "fail", "go")]
    first, second, third = together(Limits(), requests, active=lambda: 3)
    assert isinstance(second, RuntimeError)
    assert np.array_equal(first.chunk, third.chunk)
    assert policy.batches == [3, 1, 1, 1]


def test_a_policy_that_answers_for_too_few_is_an_error_for_those_who_asked():
    policy = GoalPolicy()
    policy.chunks = lambda asked: np.zeros((3, 5, 2), np.float32)
    (found,) = together(Limits(), [(policy, asked())])
    with pytest.raises(ValueError, match=r"made \(3, 5, 2\) of 1 requests"):
        raise found


def test_a_robot_that_has_gone_is_not_computed_for():
    policy = GoalPolicy()

    async def run():
        batcher = Batcher(Limits(window_s=0.05))
        gone = asyncio.create_task(batcher.ask(policy, asked()))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        running = asyncio.create_task(batcher.run())
        await asyncio.wait_for(batcher.ask(policy, asked()), 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
    assert policy.batches == [1]
