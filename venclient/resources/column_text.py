"""Values of the resources database as text, whatever the type of their column."""

import math
from decimal import Decimal

import orjson


def text_of(value: object) -> str | None:
    """Convert a value to text: bytes as UTF-8, whole numbers without a decimal point, JSON columns as JSON.

    None stays None. Raises `ValueError` for bytes that are not UTF-8 or contain control characters.
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
    """Convert a value that is only displayed: bytes that are not UTF-8 become replacement characters."""
    try:
        return text_of(value)
    except ValueError:
        assert isinstance(value, bytes | bytearray | memoryview)
        return bytes(value).decode(errors="replace")
