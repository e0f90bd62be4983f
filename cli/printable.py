"""Text from outside as it may stand on a terminal."""

import re

# Escape sequences could colour, move or rename the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text in one line, since a line break would forge another, and with � in place of control characters."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", re.sub(r"\s*[\r\n]\s*", " ", text))
