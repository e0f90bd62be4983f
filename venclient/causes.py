"""Which error messages have the same cause."""

import re

from venclient.untrusted_text import visible

# The parts in which messages of the same cause differ: quoted names, and numbers.
_NAMES_AND_NUMBERS = re.compile(r"'[^']*'|\d[\d,.]*")


def cause_of(error: str, *names: str) -> str:
    """What a message has in common with others of its cause; `names`: those that it may quote."""
    for name in filter(None, names):
        error = error.replace(f"'{visible(name)}'", "")  # a name may contain quotes itself
    return _NAMES_AND_NUMBERS.sub("", error)
