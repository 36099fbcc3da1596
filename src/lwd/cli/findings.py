"""How a doctor's findings are shown."""

import json
import sys
from collections.abc import Sequence

from lwd.store.finding import Finding


def show(findings: Sequence[Finding], outcomes: Sequence[str], *, as_json: bool) -> None:
    """Print each finding with what came of its repair, "" if none was tried.

    Ends with exit status 1 if anything is left that is wrong.
    """
    pairs = list(zip(findings, outcomes, strict=True))
    if as_json:
        print(json.dumps([finding._asdict() | {"outcome": came} for finding, came in pairs]))
    else:
        for finding, came in pairs:
            print(f"{finding.trouble} ({finding.subject}): {finding.explanation}")
            print(f"  {came or 'to repair: ' + finding.remedy}")
        print(f"{len(findings)} findings")
    if any(not came or came.startswith("left") for came in outcomes):
        sys.exit(1)
