"""Which error messages have the same cause."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from venclient.untrusted_text import visible

T = TypeVar("T")

# The parts in which messages of the same cause differ: quoted names, and numbers.
_NAMES_AND_NUMBERS = re.compile(r"'[^']*'|\d[\d,.]*")


def cause_of(error: str, *names: str) -> str:
    """What a message has in common with others of its cause; `names`: those that it may quote."""
    for name in filter(None, names):
        error = error.replace(f"'{visible(name)}'", "")  # a name may contain quotes itself
    return _NAMES_AND_NUMBERS.sub("", error)


def by_cause(failures: Iterable[T], cause: Callable[[T], str]) -> list[list[T]]:
    """Group failures by their cause, the most frequent one first."""
    groups: dict[str, list[T]] = {}
    for each in failures:
        groups.setdefault(cause(each), []).append(each)
    return sorted(groups.values(), key=len, reverse=True)
