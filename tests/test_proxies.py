"""Promises about the proxies of the environment: nothing for this machine goes through one, whatever they are."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import command, run_options
from tests.prefect_homes import prefect_home
from tests.reference_vtn import ReferenceVtn
from tests.running_up import running_up
from tests.sites import Site
from venclient.proxies import proxies_for, put_back, set_aside

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "proxies",
    [
        {"HTTP_PROXY": NOBODY},
        {"http_proxy": NOBODY, "no_proxy": "127.0.0.0/8"},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"ALL_PROXY": "socks5h://127.0.0.1:9", "NO_PROXY": "localhost,127.0.0.1,[::1],fe80::/10"},
        {"NO_PROXY": "::1/128"},
        {"HTTPS_PROXY": "ftp://127.0.0.1:9", "HTTP_PROXY": "127.0.0.1:port"},
    ],
    ids=str,
)
def test_a_run_reaches_prefect_and_vtn_on_this_machine(
    vtn: ReferenceVtn, new_site: Callable[..., Site], prefect_url: str, tmp_path: Path, proxies: dict[str, str]
) -> None:
    site = new_site(loads=1)
    site.register(vtn)
    finished = command("run", *run_options(site, vtn), cwd=tmp_path, prefect_url=prefect_url, **proxies)
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    site.assert_stored(vtn)


@pytest.mark.long
def test_so_do_server_worker_and_runs_of_up(vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=1)
    site.register(vtn)
    settings = {
        "VTN_SERVER_ADDRESS": vtn.base_url,
        "VTN_BEARER_TOKEN": vtn.token,
        "BULK_UPLOAD_RESOURCES_DB": str(site.db),
        "BULK_UPLOAD_METER_FILE": str(site.h5),
        "BULK_UPLOAD_LEDGER_URL": str(site.ledger),
    }
    proxies = {"ALL_PROXY": "socks5://127.0.0.1:9", "HTTP_PROXY": NOBODY, "NO_PROXY": "[::1],10.0.0.0/8"}
    with running_up(tmp_path, PREFECT_HOME=str(prefect_home(tmp_path / "prefect")), **settings, **proxies) as up:
        assert "Completed" in up.start_upload("--watch", cwd=tmp_path)
    site.assert_stored(vtn)


@pytest.mark.parametrize(
    ("address", "is_by_proxy"),
    [
        ("https://vtn.example/openadr3", True),
        ("https://10.1.2.3:8443/openadr3", False),
        ("https://[2001:db8::7]/openadr3", False),
        ("https://vtn.grid.example", False),
        ("https://127.0.0.1:8443", False),
        ("https://[::1]:8443", False),
        ("https://localhost", False),
    ],
)
@pytest.mark.parametrize("are_aside", [False, True])
def test_another_machine_is_reached_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, address: str, is_by_proxy: bool, are_aside: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8, .grid.example, [2001:db8::]/32")
    if are_aside:
        environment = dict(os.environ)
        set_aside(environment)
        for name in ("HTTPS_PROXY", "NO_PROXY"):
            assert name not in environment
            monkeypatch.delenv(name)
            monkeypatch.setenv(f"VENCLIENT_{name}", environment[f"VENCLIENT_{name}"])
        assert put_back(os.environ)["HTTPS_PROXY"] == "http://proxy.example:3128"
        assert put_back(os.environ)["NO_PROXY"].endswith("/32,localhost,127.0.0.1,::1")
    assert proxies_for(address) == ({"https": "http://proxy.example:3128"} if is_by_proxy else {})


@pytest.mark.parametrize("proxy", ["socks5://user:hunter2@127.0.0.1:9", "ftp://user:hunter2@127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_for_a_vtn_elsewhere_is_told_in_a_sentence(
    new_site: Callable[..., Site], tmp_path: Path, proxy: str
) -> None:
    finished = command(
        "register", "--db", new_site(loads=1).db, "--vtn-url", "https://vtn.example/openadr3",
        cwd=tmp_path, VTN_BEARER_TOKEN="given", ALL_PROXY=proxy,
    )  # fmt: skip
    assert finished.returncode == 2
    assert "The proxy that the environment names cannot be used" in finished.stderr
    assert "PySocks" in finished.stderr or not proxy.startswith("socks")
    assert "hunter2" not in finished.stderr
    assert "Traceback" not in finished.stderr
