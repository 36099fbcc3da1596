"""A running policy server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lwd.config import PlaneConfig
from lwd.config.serving import ServeConfig
from lwd.serve.policies import OnePolicy, Policies
from lwd.serve.process import in_thread
from lwd.store.access import Access
from serve.point import CONTROL, GoalPolicy


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a server of a policy, or of policies, with settings; gives its URL."""
    with ExitStack() as stack:

        def start(
            policy: object = None,
            *,
            access: Access | None = None,
            tls: tuple[Path, Path] | None = None,
            **settings,
        ) -> str:
            policies = policy if isinstance(policy, Policies) else OnePolicy(policy or GoalPolicy())
            config = ServeConfig(**{"port": 0, "upload": False, **settings})
            cert, key = tls or (None, None)
            plane = PlaneConfig(root=tmp_path, tls_cert=cert, tls_key=key)
            return stack.enter_context(in_thread(config, plane, CONTROL, policies, access=access))

        yield start
