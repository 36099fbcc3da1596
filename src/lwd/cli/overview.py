"""What `lwd --help` says: the commands by purpose, one sentence each."""

import inspect
import re
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table

ASKED = (["-h"], ["--help"], [])
"""Words after the name of a group that ask for its overview."""


def summary(command: Callable) -> str:
    """First sentence of what a command says about itself."""
    lead = inspect.cleandoc(command.__doc__ or "").partition("\n\n")[0]
    sentence = re.match(r".*?\.(?= |$)", " ".join(lead.split()))
    return sentence.group() if sentence else lead


def show(name: str, what_for: str, sections: Mapping[str, Mapping[str, str]]) -> None:
    """Print a group's commands under the titles of their sections."""
    console = Console(highlight=False)
    console.print(f"usage: {name} COMMAND [--help]\n\n{what_for}", markup=False)
    width = max(len(command) for section in sections.values() for command in section)
    for title, section in sections.items():
        console.print(f"\n[bold]{title}[/bold]")
        table = Table.grid(padding=(0, 2))
        table.add_column(width=2)
        table.add_column(width=width, style="cyan")
        for command, said in section.items():
            table.add_row("", command, said)
        console.print(table)
    console.print(f"\n`{name} COMMAND --help` has all flags, and an example.", markup=False)
