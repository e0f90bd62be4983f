"""Promises about what an import costs: the library brings no Prefect, and no import reads or writes anything."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import venclient
from tests.sites import Site

ROOT = Path(__file__).parents[1]


def _modules(package: str) -> str:
    """All modules of a package, as `import` takes them; not Alembic's, which it runs itself."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / package).rglob("*.py")]
    names = {".".join(path.parts).removesuffix(".__init__") for path in paths if "migrations" not in path.parts}
    return ", ".join(sorted(name for name in names if not name.endswith("__main__")))


def test_the_library_brings_no_prefect_and_no_server() -> None:
    names = ("prefect", "fastapi", "config")
    check = f"import sys, {_modules('venclient')}; print([name for name in {names} if name in sys.modules])"
    assert _python(check) == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["status"]], ids=" ".join)
def test_help_and_status_bring_no_prefect(arguments: list[str], new_site: Callable[..., Site]) -> None:
    site = new_site()
    code = (
        "import atexit, sys; from cli import main; "
        "atexit.register(lambda: print('Prefect:', 'prefect' in sys.modules)); "
        f"sys.argv[1:] = {arguments}; main()"
    )
    assert _python(code, cwd=site.db.parent, BULK_UPLOAD_RESOURCES_DB=str(site.db)).endswith("Prefect: False")


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_what_needs_no_data_brings_nothing_that_takes_time(argument: str) -> None:
    slow = ("numpy", "sqlalchemy", "authlib", "requests", "h5py", "pydantic")
    code = (
        "import atexit, sys; from cli import main; "
        f"atexit.register(lambda: print('Brought:', sorted(sys.modules.keys() & {set(slow)}))); "
        f"sys.argv[1:] = ['{argument}']; main()"
    )
    assert _python(code).endswith("Brought: []")


@pytest.mark.long
def test_importing_leaves_no_file(tmp_path: Path) -> None:
    packages = ("venclient", "config", "tasks", "flows", "vtn", "demo", "cli")
    _python("; ".join(f"import {_modules(package)}" for package in packages), cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_library_names_no_option_no_setting_and_no_command() -> None:
    texts = _python(
        "import ast, pathlib; "
        "nodes = [n for p in pathlib.Path('venclient').rglob('*.py') for n in ast.walk(ast.parse(p.read_text()))]; "
        "docs = {id(n.body[0].value) for n in nodes if getattr(n, 'body', None) and isinstance(n.body, list) "
        "and isinstance(n.body[0], ast.Expr)}; "
        "texts = [n for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]; "
        "print([n.value for n in texts if id(n) not in docs])"
    )
    assert not re.findall(r"--[a-z]\w*|BULK_UPLOAD_\w+|OAUTH\w+|VTN_[A-Z]\w+|`bulk-upload [^`]*", texts)


def test_what_the_library_says_ends_with_what_helps_where_a_program_says_what_does() -> None:
    missing = (
        "from pathlib import Path; from venclient.errors import ConfigurationError\n"
        "from venclient.sources.hdf5 import MeterFile\n{}\n"
        "try: MeterFile(Path('nowhere.h5'))\nexcept ConfigurationError as error: print(error)"
    )
    assert _python(missing.format("")) == "Meter file nowhere.h5 not found"
    given = _python(missing.format("from config.advice import give_advice; give_advice()"))
    assert given.startswith("Meter file nowhere.h5 not found: name it with --h5 or BULK_UPLOAD_METER_FILE, or make a ")


def test_the_public_surface_is_what_it_says() -> None:
    assert sorted(venclient.__all__) == venclient.__all__
    for name in venclient.__all__:
        assert getattr(venclient, name).__doc__


def _python(code: str, cwd: Path = ROOT, **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | environment,
    )  # fmt: skip
    return finished.stdout.strip()
