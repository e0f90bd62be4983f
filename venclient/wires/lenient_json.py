"""JSON of servers, decoded into the fields that are needed: whatever else an answer holds is skipped.

The first try is by the book (RFC 8259) and makes no objects of fields that nobody reads. What it refuses is tried once
more with the standard library, which takes NaN and Infinity, numbers beyond a float, lone surrogates and line breaks
within a string; and before that in whatever encoding the text has.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from threading import Lock
from typing import TypeVar

import msgspec

# A list is decoded so many bytes at a time, and no element of it is larger than the most that may wait for its end.
BATCH_BYTES = 2**18
MAX_WAITING_BYTES = 2**20
# An element may hold objects of its own: so many closing braces are tried as its end before they are told apart.
ENDS_TRIED = 8
DEEPER = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
MAX_DIGITS = 300

T = TypeVar("T")

_COMMA = re.compile(rb"\s*+,")
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[][{}]', re.DOTALL)
# Generic objects take up to 40 times the bytes of their text: one answer is read by them at a time.
_generic_objects = Lock()


def decoded(content: bytes | bytearray, shape: type[T]) -> T:
    """The JSON in `content` as a type that `msgspec` knows.

    Raises `msgspec.ValidationError` for JSON of another shape, and another `ValueError` for what is not JSON.
    """
    try:
        return _by_the_book(content, shape)
    except (ValueError, RecursionError):
        try:
            with _generic_objects:
                return msgspec.convert(json.loads(_text(content), strict=False, parse_int=_number), shape)
        except RecursionError:
            raise ValueError("JSON is nested too deeply") from None


def batches(parts: Iterable[bytes], shape: type[T]) -> Iterator[list[T]]:
    """The elements of a JSON list of objects, some at a time, while its parts arrive.

    The list is never in memory as a whole. Raises as `decoded` does, and `msgspec.ValidationError` where no element
    ends within 1 MiB.
    """
    waiting = bytearray()
    try_at = BATCH_BYTES
    for part in _utf8(parts):
        waiting += part
        if len(waiting) < try_at:
            continue
        if (found := _complete(waiting, shape)) is not None:
            elements, waiting = found
            yield elements
        elif len(waiting) >= MAX_WAITING_BYTES:
            if waiting.lstrip()[:1] != b"[":
                raise ValueError("not JSON, or no list")
            raise msgspec.ValidationError("an element of more than 1 MiB")
        try_at = max(2 * len(waiting), BATCH_BYTES)
    yield decoded(waiting, list[shape])  # type: ignore[valid-type]  # known when it runs


def _complete(waiting: bytearray, shape: type[T]) -> tuple[list[T], bytearray] | None:
    """The elements that have come to their end, and what is left of the list.

    A brace within a string or another object may look like the end of an element; but then it is no JSON.
    """
    end = len(waiting)
    for _ in range(ENDS_TRIED):
        end = waiting.rfind(b"}", 0, end)
        if end < 0:
            return None
        if _COMMA.match(waiting, end + 1):
            with suppress(ValueError, RecursionError):
                return _by_the_book(waiting[: end + 1] + b"]", list[shape]), _after(waiting, end)  # type: ignore[valid-type]
    if (last := _last_end(waiting)) is None:
        return None
    return decoded(waiting[: last + 1] + b"]", list[shape]), _after(waiting, last)  # type: ignore[valid-type]


def _last_end(waiting: bytearray) -> int | None:
    """Where the last element ends, whatever else may be wrong with the text."""
    depth, end = 0, None
    for token in _TOKENS.finditer(waiting):
        depth += DEEPER.get(token[0], 0)
        if depth == 1 and token[0] == b"}" and _COMMA.match(waiting, token.end()):
            end = token.end() - 1
    return end


def _after(waiting: bytearray, end: int) -> bytearray:
    """The same list without its elements up to this end."""
    comma = _COMMA.match(waiting, end + 1)
    assert comma is not None
    return bytearray(b"[") + waiting[comma.end() :]


def _by_the_book(content: bytes | bytearray, shape: type[T]) -> T:
    """Raises `msgspec.DecodeError`, which is a `ValueError`."""
    return msgspec.json.decode(content, type=shape)


def _utf8(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same text in UTF-8 without a byte order mark; bytes that are no UTF-8 stay as they are."""
    begin, rest = b"", iter(parts)
    for part in rest:
        begin += part
        if len(begin) >= len(codecs.BOM_UTF32):
            break
    encoding = json.detect_encoding(begin)
    if encoding.startswith("utf-8"):
        yield begin.removeprefix(codecs.BOM_UTF8)
        yield from rest
    else:
        for text in codecs.iterdecode(chain((begin,), rest), encoding, errors="replace"):
            yield text.encode()


def _number(digits: str) -> int | float:
    """Infinity, where a float is not large enough."""
    return int(digits) if len(digits) < MAX_DIGITS else float(digits)


def _text(content: bytes | bytearray) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:
        return content.decode("latin-1")
