"""A Sphinx extension: in the source of a page, `% from the code: commands` becomes the commands, and so on.

They come from the code each time that the pages are built, so that a reference page names what there is.
"""

import inspect
import re
from collections.abc import Iterator

import typer
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx

from cli import COMMANDS, app
from config.settings import Settings, environment_name

MARK = re.compile(r"^% from the code: (\w+)$", re.MULTILINE)
# Options in upper or lower case are written like this in help texts; the rest of a text may have Markdown in it.
NAMES = re.compile(r"(?<!`)(--[a-z][a-z-]+|\b[A-Z]+_[A-Z_]+\b)(?!`)")


def commands() -> str:
    """Each command with its help, its examples and its options."""
    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="bulk-upload")
    return "\n".join(line for name in COMMANDS for line in _command(name, group.get_command(context, name), context))


def settings() -> str:
    """A table of all settings with their defaults."""
    rows = [
        (f"`{environment_name(name)}`", _default(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _table(("setting", "default", "what it is"), rows)


def _command(name: str, command: typer.core.TyperCommand, group: typer.Context) -> Iterator[str]:
    context = typer.Context(command, info_name=name, parent=group)
    yield f"## `{name}`\n"
    yield _code(" ".join([context.command_path, *command.collect_usage_pieces(context)]))
    for paragraph in inspect.cleandoc(COMMANDS[name].__doc__ or "").split("\n\n"):
        is_example = paragraph.startswith("    ")
        yield _code(inspect.cleandoc(paragraph)) if is_example else f"{_marked(paragraph)}\n"
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    rows = [(f"`{option}`".replace("|", r"\|"), _marked(text)) for option, text in filter(None, records)]
    yield _table(("option", "what it does"), rows)


def _marked(text: str) -> str:
    return NAMES.sub(r"`\1`", text)


def _code(lines: str) -> str:
    return f"```sh\n{lines}\n```\n"


def _default(value: object) -> str:
    return "" if value in (None, "", PydanticUndefined) else f"`{value}`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


GENERATED = {"commands": commands, "settings": settings}


def _outdated(app: Sphinx, *_: object) -> list[str]:
    """These pages: Sphinx does not see that the code has changed."""
    return [page for page in app.env.found_docs if MARK.search(app.env.doc2path(page).read_text(encoding="utf-8"))]


def _fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    source[0] = MARK.sub(lambda mark: GENERATED[mark[1]](), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("env-get-outdated", _outdated)
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
