"""What a command prints: each text in one line, and without what a terminal obeys."""

import json
import re

import orjson
import typer

from venclient.untrusted_text import visible

_BEYOND_ASCII = re.compile(r"[^ -~]")


def printable(text: str) -> str:
    """The text in one line, with control characters written out."""
    return visible(text)


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, on standard error with `err`."""
    typer.echo(printable(text), err=err)


def echo_json(answer: object, option: int = 0) -> None:
    """Print an object as a line of JSON: the data as it is, control characters as JSON's escapes.

    JSON takes some of them unescaped (RFC 8259 §7), which a terminal obeys all the same. `option`: as orjson has it.
    """
    typer.echo(_BEYOND_ASCII.sub(lambda sign: _escaped(sign[0]), orjson.dumps(answer, option=option).decode()))


def _escaped(sign: str) -> str:
    return sign if visible(sign) == sign else json.dumps(sign)[1:-1]
