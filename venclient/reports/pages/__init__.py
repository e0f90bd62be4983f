"""The HTML reports: Jinja templates in one dress, each page a self-contained file that loads nothing from elsewhere.

Charts are drawn by uPlot (https://github.com/leeoniya/uPlot, 1.6.32, MIT), which is in `uplot/` as published.
"""

import base64
import hashlib
from importlib.resources import files

import orjson
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from venclient.loads import counted
from venclient.untrusted_text import visible

# Where a rendered page gets its data. Escaped text has no `<` in it, so that nothing untrusted looks like this.
DATA_HERE = "<!-- data -->"

_folder = files(__name__)


def _text(name: str) -> str:
    return _folder.joinpath(name).read_text(encoding="utf-8")


def _shown(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> Markup:
    """Return the text of a style sheet or a script of this folder, to stand within its element."""
    return Markup(_text(name))


def _script_hash(name: str) -> Markup:
    """Return what a Content-Security-Policy calls this script: nothing else is executed in the page."""
    digest = hashlib.sha256(_text(name).encode()).digest()
    return Markup(f"'sha256-{base64.b64encode(digest).decode()}'")


def _commands(text: str) -> Markup:
    """Return the text with what stands between backticks as code."""
    parts = enumerate(visible(text).split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in parts)


_environment = Environment(
    loader=FunctionLoader(_text),
    autoescape=True,
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["commands"] = _commands
_environment.filters["n"] = "{:,}".format
_environment.globals.update(asset=_asset, script_hash=_script_hash, counted=counted)


def page(template: str, data: object = None, **values: object) -> str:
    """Render a template of this folder, with `data` for its script."""
    return with_data(frame(template, **values), data)


def frame(template: str, **values: object) -> str:
    """Render a template of this folder that is still without data."""
    return _environment.get_template(template).render(values)


def with_data(rendered: str, data: object) -> str:
    """Insert the data, anything that JSON can express, into a page of `frame`."""
    encoded = orjson.dumps(_visible(data)).decode().replace("<", "\\u003c")
    before, _, after = rendered.rpartition(DATA_HERE)
    return before + encoded + after


def _visible(data: object) -> object:
    """Return the data with all strings as text that a page can show."""
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, dict):
        return {name: _visible(value) for name, value in data.items()}
    return [_visible(each) for each in data] if isinstance(data, list | tuple) else data
