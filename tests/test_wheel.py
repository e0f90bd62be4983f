"""Promises of the wheel: whole, without anything of an operator's own, and enough on a machine without a checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.commands import AUTH_STRING, ROOT
from tests.reference_vtn import ReferenceVtn
from tests.running_up import running_up
from tests.sites import Site

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTENTS: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
OWN = (
    ".env", "config/.env", "config/resources.db", "config/ledger.db-wal", "config/examplemeterdata/load_data.h5",
    "deployments/docker/.env",
)  # fmt: skip
# `up` deploys what prefect.yaml has, in the folder that this lies in.
DEPLOYED = """
import os, yaml
from prefect.flows import load_flow_from_entrypoint
from cli.deployments import PROJECT
os.chdir(PROJECT)
with open("prefect.yaml") as file:
    deployments = yaml.safe_load(file)["deployments"]
for each in deployments:
    print(load_flow_from_entrypoint(each["entrypoint"]).name, each["name"], sep="/")
    for step in each.get("build", ()):
        assert all(os.path.exists(given.get("path", ".")) for given in step.values()), step
"""


@dataclass(frozen=True)
class Installed:
    """A wheel, and a virtual environment with it and with the dependencies of this one."""

    wheel: Path
    sources: frozenset[str]
    venv: Path

    def run(self, *command: object, cwd: Path, **environment: str) -> str:
        """Run a command of it to its end; what it prints."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("PREFECT_", "PYTHON"))}
        finished = subprocess.run(
            [self.venv / "bin" / str(command[0]), *map(str, command[1:])], cwd=cwd, env=kept | environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of a checkout in which somebody has worked."""
    folder = tmp_path_factory.mktemp("wheel")
    checkout, venv = folder / "checkout", folder / "venv"
    ignored = shutil.ignore_patterns("__pycache__", *(Path(own).name for own in OWN))
    checkout.mkdir()
    for name in CONTENTS:
        copy = partial(shutil.copytree, ignore=ignored) if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, checkout / name)
    sources = frozenset(path.relative_to(checkout).as_posix() for path in checkout.rglob("*") if path.is_file())
    for name in ("LICENSE", "README.md", "pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / name, checkout)
    for own in OWN:
        (checkout / own).parent.mkdir(exist_ok=True)
        (checkout / own).write_text("an operator's own")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    _do(*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(folder), str(checkout))
    (wheel,) = folder.glob("bulk_upload-*")
    shutil.rmtree(checkout)
    _do(sys.executable, "-m", "venv", "--without-pip", str(venv))
    _do(*pip, "--python", str(venv / "bin" / "python"), "install", *offline, str(wheel))
    (packages,) = venv.glob("lib/python*/site-packages")
    # A folder that a .pth file names has its own .pth files ignored: that of the editable project.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (venv / "bin" / "prefect").symlink_to(Path(sysconfig.get_path("scripts")) / "prefect")
    return Installed(wheel, sources, venv)


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def test_it_has_every_file_of_the_packages_and_nothing_of_an_operators_own(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (metadata,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/METADATA"))
        assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())
    assert names == installed.sources
    assert "venclient/py.typed" in names
    assert f"Version: {PROJECT['project']['version']}\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata


def test_an_installed_wheel_is_enough_for_an_upload_and_the_deployments(
    installed: Installed, vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=2, points=50)
    cwd = tmp_path / "empty"
    cwd.mkdir()
    settings = {
        "PREFECT_API_URL": prefect_url, "PREFECT_API_AUTH_STRING": AUTH_STRING,
        "VTN_SERVER_ADDRESS": vtn.base_url, "VTN_BEARER_TOKEN": vtn.token, "BULK_UPLOAD_RESOURCES_DB": str(site.db),
        "BULK_UPLOAD_METER_FILE": str(site.h5), "BULK_UPLOAD_LEDGER_URL": str(site.ledger),
    }  # fmt: skip
    assert installed.run("bulk-upload", "--version", cwd=cwd) == f"bulk-upload {PROJECT['project']['version']}\n"
    assert "Wrote .env" in installed.run("bulk-upload", "init", cwd=cwd)
    installed.run("bulk-upload", "register", cwd=cwd, **settings)
    assert "✓ VTN" in installed.run("bulk-upload", "doctor", cwd=cwd, **settings)
    assert "2 of 2 loads done" in installed.run("bulk-upload", "run", cwd=cwd, **settings)
    site.assert_stored(vtn)
    deployed = installed.run("python", "-c", DEPLOYED, cwd=cwd).split()
    assert {"bulk-upload/all-vens", "bulk-upload/nightly", "register-loads/all-vens"} <= set(deployed)


@pytest.mark.long
def test_up_and_its_demo_need_no_checkout(installed: Installed, tmp_path: Path) -> None:
    packages = set(installed.venv.glob("lib/python*/site-packages/*"))
    python = str(installed.venv / "bin" / "python")
    with running_up(tmp_path, "--demo", python=python, PYTHONPATH="", TMPDIR=str(tmp_path)) as up:
        assert f"{installed.venv}/bin/prefect deployment run" in up.printed
        assert "Completed" in up.start_upload("--watch", cwd=tmp_path)
        up.end()
    assert set(installed.venv.glob("lib/python*/site-packages/*")) == packages
