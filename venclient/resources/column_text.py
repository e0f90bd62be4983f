"""What a column of the resources database holds, as text, whatever the type that the database gives to it."""

import math
from decimal import Decimal

import orjson


def text_of(value: object) -> str | None:
    """The value as text: bytes as UTF-8, a whole number without a point, a JSON column as JSON; None stays None.

    Raises `ValueError` for bytes that are no text (`UnicodeDecodeError`), or that hold control characters.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        text = bytes(value).decode()
        if any(character < " " for character in text):
            raise ValueError("control characters")
        return text
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return str(value)


def shown_text(value: object) -> str | None:
    """The same, for what is only shown: what is no text becomes replacement characters."""
    try:
        return text_of(value)
    except ValueError:
        assert isinstance(value, bytes | bytearray | memoryview)
        return bytes(value).decode(errors="replace")
