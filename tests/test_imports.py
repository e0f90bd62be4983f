"""Promises about what an import costs: the library brings no Prefect, and no import reads or writes anything."""

import os
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


@pytest.mark.parametrize("package", ["venclient", "config", "tasks", "flows", "vtn", "demo", "cli"])
def test_importing_leaves_no_file(package: str, tmp_path: Path) -> None:
    _python(f"import {_modules(package)}", cwd=tmp_path)
    assert not list(tmp_path.iterdir())


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
