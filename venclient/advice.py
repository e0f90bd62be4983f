"""What a person can do about a message: in the words of the program that uses the library.

The library knows no options, settings or commands. It names what is to be advised on, and the program gives a text for
each such name; without one, messages end where the cause is told.
"""

from collections.abc import Callable, Mapping

Text = str | Callable[..., str]
_texts: dict[str, Text] = {}


def set_advice(texts: Mapping[str, Text]) -> None:
    """From now on, messages end with these texts, by what they advise on; a function makes its text of what one has."""
    _texts.update(texts)


def advice(on: str, **values: object) -> str:
    """The end of a message, with the punctuation that leads to it; nothing where the program has no text for it."""
    text = _texts.get(on, "")
    return text(**values) if callable(text) else text
