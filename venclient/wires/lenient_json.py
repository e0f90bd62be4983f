"""Lenient JSON decoding into the fields that are needed; all others are skipped.

Strict decoding (RFC 8259) is tried first, and creates no objects for unused fields. If it fails, the encoding of the
text is detected and the standard library is used, which accepts NaN and Infinity, numbers beyond the range of a float,
lone surrogates, and line breaks in strings.
"""

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from threading import Lock
from typing import TypeVar

import msgspec

# A list is decoded in batches of this size, and an element may not be larger than the buffer limit.
BATCH_BYTES = 2**18
MAX_ELEMENT_BYTES = 2**20
# Elements may contain objects: this many closing braces are tried as the end of one before the text is tokenized.
ENDS_TRIED = 8
DEPTH_CHANGE = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
# Longer integers are read as floats: `int` refuses very long ones, and a float holds no more than 309 digits anyway.
MAX_INT_DIGITS = 300

T = TypeVar("T")

_COMMA = re.compile(rb"\s*+,")
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[][{}]', re.DOTALL)
# Generic Python objects take up to 40 times the memory of their text, so only one thread decodes with them at a time.
_generic_decoding = Lock()


def decoded(content: bytes | bytearray, shape: type[T]) -> T:
    """Decode JSON as a type that `msgspec` knows.

    Raises `msgspec.ValidationError` for JSON of another shape, and another `ValueError` if it is not JSON.
    """
    try:
        return msgspec.json.decode(content, type=shape)
    except (ValueError, RecursionError):
        try:
            with _generic_decoding:
                return msgspec.convert(json.loads(_text(content), strict=False, parse_int=_parse_int), shape)
        except RecursionError:
            raise ValueError("JSON is nested too deeply") from None


def as_number(value: object) -> float:
    """Return a decoded value as a number, also if it is written as text; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def batches(parts: Iterable[bytes], shape: type[T], max_element_bytes: int = MAX_ELEMENT_BYTES) -> Iterator[list[T]]:
    """Decode a JSON list of objects while its parts arrive, and yield its elements in batches.

    The list is never in memory as a whole. Raises as `decoded` does, and `msgspec.ValidationError` for an element of
    more than `max_element_bytes`.
    """
    buffer = bytearray()
    try_at = BATCH_BYTES
    for part in _utf8(parts):
        buffer += part
        if len(buffer) < try_at:
            continue
        if (found := _complete_elements(buffer, shape)) is not None:
            elements, buffer = found
            yield elements
        elif len(buffer) >= max_element_bytes:
            if buffer.lstrip()[:1] != b"[":
                raise ValueError("not JSON, or no list")
            raise msgspec.ValidationError(f"an element of more than {max_element_bytes // 2**20} MiB")
        # Doubling keeps the total work linear if no element is complete yet.
        try_at = max(2 * len(buffer), BATCH_BYTES)
    yield decoded(buffer, list[shape])  # type: ignore[valid-type]  # known at runtime


def _complete_elements(buffer: bytearray, shape: type[T]) -> tuple[list[T], bytearray] | None:
    """The elements that are complete, and the list that remains without them; None if there are none.

    A brace in a string or a nested object may look like the end of an element, but the text up to it is then no JSON.
    """
    end = len(buffer)
    for _ in range(ENDS_TRIED):
        end = buffer.rfind(b"}", 0, end)
        if end < 0:
            return None
        if _COMMA.match(buffer, end + 1):
            with suppress(ValueError, RecursionError):
                elements: list[T] = msgspec.json.decode(buffer[: end + 1] + b"]", type=list[shape])  # type: ignore[valid-type]
                return elements, _after(buffer, end)
    if (last := _last_end(buffer)) is None:
        return None
    return decoded(buffer[: last + 1] + b"]", list[shape]), _after(buffer, last)  # type: ignore[valid-type]


def _last_end(buffer: bytearray) -> int | None:
    """The index of the brace that ends the last complete element, also if the text is no strict JSON."""
    depth, end = 0, None
    for token in _TOKENS.finditer(buffer):
        depth += DEPTH_CHANGE.get(token[0], 0)
        if depth == 1 and token[0] == b"}" and _COMMA.match(buffer, token.end()):
            end = token.end() - 1
    return end


def _after(buffer: bytearray, end: int) -> bytearray:
    """The list without its elements up to the one that ends at this index."""
    comma = _COMMA.match(buffer, end + 1)
    assert comma is not None
    return bytearray(b"[") + buffer[comma.end() :]


def _utf8(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Convert text in UTF-8, UTF-16 or UTF-32 to UTF-8 without a byte order mark; invalid UTF-8 is left as it is."""
    start, rest = b"", iter(parts)
    # The encoding is evident from the first four bytes, which may come in several parts.
    for part in rest:
        start += part
        if len(start) >= len(codecs.BOM_UTF32):
            break
    encoding = json.detect_encoding(start)
    if encoding.startswith("utf-8"):
        yield start.removeprefix(codecs.BOM_UTF8)
        yield from rest
    else:
        for text in codecs.iterdecode(chain((start,), rest), encoding, errors="replace"):
            yield text.encode()


def _parse_int(digits: str) -> int | float:
    """Infinity if the number exceeds the range of a float."""
    return int(digits) if len(digits) < MAX_INT_DIGITS else float(digits)


def _text(content: bytes | bytearray) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:
        return content.decode("latin-1")
