"""Promises about settings: one place, every fault told at once, no secret shown, and the example file is right."""

from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values

from config.connections import open_meters
from config.settings import Settings, environment_name, given_options
from venclient.errors import ConfigurationError

ROOT = Path(__file__).parents[1]


def test_every_setting_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTN_SERVER_ADDRESS", "https://vtn.example/openadr3/")
    monkeypatch.setenv("BULK_UPLOAD_CHUNK_SIZE", "123")
    settings = Settings.load()
    assert (settings.vtn_url, settings.chunk_size, settings.batch_size) == ("https://vtn.example/openadr3", 123, 5_000)


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTN_SERVER_ADDRESS", "vtn.example")
    monkeypatch.setenv("BULK_UPLOAD_CONCURRENCY", "0")
    monkeypatch.setenv("BULK_UPLOAD_BATCH_SIZE", "many")
    with pytest.raises(ConfigurationError) as failure:
        Settings.load()
    for name in ("VTN_SERVER_ADDRESS", "BULK_UPLOAD_CONCURRENCY", "BULK_UPLOAD_BATCH_SIZE"):
        assert name in str(failure.value)


def test_an_option_that_is_not_given_leaves_what_is_set() -> None:
    with given_options(chunk_size=7, vtn_url=None):
        assert Settings.load(chunk_size=None).chunk_size == 7
        assert Settings.load(chunk_size=8).chunk_size == 8
    assert Settings.load().chunk_size == 50_000


def test_secrets_are_not_shown() -> None:
    settings = Settings.load(bearer_token="hush-token", oauth_client_secret="hush-secret")
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_the_example_file_names_every_setting_with_its_default() -> None:
    text = (ROOT / "config" / ".env.example").read_text()
    told = dotenv_values(stream=StringIO(text.replace("\n#", "\n")))
    assert set(told) == {environment_name(field) for field in Settings.model_fields}
    for name in Settings.model_fields:
        if environment_name(name).startswith("BULK_UPLOAD_"):
            assert Settings.load(**{name: told[environment_name(name)]}) == Settings.load(), name


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:99999/x", "http://127.0.0.1:abc/x", "http://127.0.0.1/x?y=1", "http://127.0.0.1/x#y"],
)
def test_an_address_that_cannot_be_one_is_told(address: str) -> None:
    with pytest.raises(ConfigurationError, match="VTN_SERVER_ADDRESS"):
        Settings.load(vtn_url=address)


def test_the_address_of_the_token_server_is_kept_to_the_letter() -> None:
    address = "http://127.0.0.1:9/o/token/?audience=vtn"
    assert Settings.load(oauth_token_url=address).oauth_token_url == address
    assert Settings.load(vtn_url="http://127.0.0.1:9/openadr3/").vtn_url == "http://127.0.0.1:9/openadr3"


def test_a_name_that_is_nearly_a_setting_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".env").write_text("BULK_UPLOAD_CHUNKSIZE=5\nVTN_SERVER_ADRESS=http://127.0.0.1\nVTN_STORE=x\n")
    for _ in range(2):
        Settings.load()
    assert "BULK_UPLOAD_CHUNKSIZE is no setting; did you mean BULK_UPLOAD_CHUNK_SIZE?" in caplog.text
    assert "VTN_SERVER_ADRESS is no setting; did you mean VTN_SERVER_ADDRESS?" in caplog.text
    assert len(caplog.records) == 2


def test_an_env_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("OAUTH_CLIENT_SECRET=hæmmelig\n".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        Settings.load()


def test_a_day_that_is_none_is_told() -> None:
    with pytest.raises(ConfigurationError, match="BULK_UPLOAD_EARLIEST: give a day such as 2025-12-31"):
        Settings.load(earliest="31.12.2025")
    with pytest.raises(ConfigurationError, match="BULK_UPLOAD_EARLIEST"):
        Settings.load(earliest="")


@pytest.mark.parametrize("seconds", ["inf", "1e308", "100000"])
@pytest.mark.parametrize("name", ["BULK_UPLOAD_TIMEOUT_S", "BULK_UPLOAD_RETRY_WAIT_S"])
def test_a_time_that_no_clock_has_is_told(monkeypatch: pytest.MonkeyPatch, name: str, seconds: str) -> None:
    monkeypatch.setenv(name, seconds)
    with pytest.raises(ConfigurationError, match=f"{name}: .* less than or equal to 86400"):
        Settings.load()


def test_a_range_of_times_that_ends_before_it_begins_is_refused() -> None:
    settings = Settings.load(earliest="2025-01-02", latest="2025-01-01")
    with pytest.raises(ConfigurationError, match="BULK_UPLOAD_LATEST=2025-01-01 is before BULK_UPLOAD_EARLIEST=2025"):
        open_meters(settings)
