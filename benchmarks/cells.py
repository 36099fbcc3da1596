"""What the pages of results write alike."""

from lwd.eval.intervals import Comparison
from lwd.eval.results import Score


def success(score: Score) -> str:
    """A rate with Wilson's 95 % interval, in one cell."""
    return f"{score.rate:.1%} [{score.low:.0%}, {score.high:.0%}] of {score.episodes}"


def difference(found: Comparison) -> str:
    """Difference, bootstrap 95 % interval and exact p, in three cells."""
    low, high = f"{found.low:+.1%}", f"{found.high:+.1%}"
    return f"{found.difference:+.1%} | [{low}, {high}] | {found.p_value:.2g}"
