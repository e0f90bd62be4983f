"""Advice at the end of messages: which option, setting or command helps, in the program that uses the library.

The library itself knows none of these. It gives each kind of advice a name, and the program registers a text for it;
without one, a message ends with its cause.
"""

from collections.abc import Callable, Mapping

Text = str | Callable[..., str]
_texts: dict[str, Text] = {}


def set_advice(texts: Mapping[str, Text]) -> None:
    """Register texts by the name of the advice; a function is called with the values that a message gives."""
    _texts.update(texts)


def advice(on: str, **values: object) -> str:
    """Return the text, with its leading punctuation; empty if none is registered."""
    text = _texts.get(on, "")
    return text(**values) if callable(text) else text
