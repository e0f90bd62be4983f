"""Context variables with a value for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def set_within(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Within, the variable has this value."""
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)
