"""Escape untrusted text for display: names from the database and the meter file, and answers of servers.

Data keeps such text unchanged. It is escaped once, where it is shown: log records by `show_controls_in_logs`, Markdown
by `markdown`, everything else by `visible`.
"""

import logging
import re
import traceback
from unicodedata import category

# Persian, Indic scripts and emoji need these.
_JOINERS = "\u200c\u200d"
# CommonMark allows a backslash before any ASCII punctuation (§2.4). Characters that begin neither markup nor a link are
# left alone, to keep the source readable.
_MARKUP = re.compile(r"[!-+.:<-@\[-`{-~]|^-")


def visible(text: str) -> str:
    r"""Return the text in one line, with control characters escaped: `\x1b`, `\n`, `\u202e`.

    Otherwise a terminal would obey escape sequences, a line break could forge a line, and a change of writing direction
    could display a different text. Idempotent.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def markdown(text: str) -> str:
    """Escape the text for a paragraph, list item or table cell of Markdown.

    It is then neither markup nor HTML, and addresses do not become links.
    """
    return _MARKUP.sub(r"\\\g<0>", visible(text).strip())


def visible_traceback(error: BaseException) -> str:
    """Format a traceback with indented lines, so that no line of an error's message looks like a log record."""
    lines = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
    return "\n".join(f"  {visible(line)}" for line in lines)


class VisibleRecord(logging.LogRecord):
    """A log record whose message is a single line for any handler; lines of a traceback are indented."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # as logging gives them
        if self.exc_info and self.exc_info[1] is not None:
            self.exc_text = visible_traceback(self.exc_info[1])  # formatters use it instead of formatting the traceback

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        return visible(super().getMessage())


def show_controls_in_logs() -> None:
    """Escape control characters in all log records of this process, for every logger and handler.

    It affects the loggers of all libraries, so only programs should call it, not code that uses this as a library.
    """
    logging.setLogRecordFactory(VisibleRecord)


def _escaped(character: str) -> str:
    is_text = character.isprintable() or character in _JOINERS or category(character) == "Zs"
    return character if is_text else character.encode("unicode_escape").decode()
