"""Commands of whoever operates a fleet: `lwd.cli` gives them their names.

What a command needs it imports itself.
"""

import json
import sys
from typing import Annotated

from tyro.conf import arg

from lwd.config import ChaosConfig

AsJson = Annotated[bool, arg(name="json")]
Chaos = Annotated[ChaosConfig, arg(name="")]


def chaos(config: Chaos = ChaosConfig(), as_json: AsJson = False) -> None:  # noqa: B008
    """Let a storm loose on a fleet of cheap robots, then prove that nothing was lost or doubled.

    The exit status is 0 only if nothing was.

    Args:
        config: The fleet and the storm.
        as_json: Print one JSON object.
    """
    from rich.console import Console

    from lwd.chaos.report import render
    from lwd.chaos.run import run

    result = run(config)
    if as_json:
        print(json.dumps(result.to_json()))
    else:
        Console().print(render(result))
    if not result.report.clean:
        sys.exit(1)


COMMANDS = (chaos,)
