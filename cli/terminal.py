"""Tables and lines on a terminal, of text from outside."""

from typing import Any

from rich.console import Console
from rich.text import Text

from cli.printable import printable


class Terminal(Console):
    """A console that takes every string as it is: no markup, no emoji codes, and control characters written out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich's, for what is printed and for what stands in a table's cells."""
        return super().render_str(printable(text), **options)
