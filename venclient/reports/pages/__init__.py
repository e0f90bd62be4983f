"""Jinja templates of the HTML reports: each page is one self-contained file that loads nothing from elsewhere."""

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined

from venclient.untrusted_text import visible

_environment = Environment(
    loader=FunctionLoader(lambda name: (files(__name__) / name).read_text(encoding="utf-8")),
    autoescape=True,
    finalize=lambda value: visible(value) if isinstance(value, str) else value,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, **values: object) -> str:
    """Render a template of this folder."""
    return _environment.get_template(template).render(values)
