"""What is used of Prefect without being promised by it: here a test says by name what a new version no longer has."""

from importlib import import_module
from importlib.resources import files

import prefect
import pytest
import yaml
from prefect.runtime import flow_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES

from tasks.report_errors import few_retries
from tasks.states import SUSPENDED


@pytest.mark.parametrize(
    ("module", "name", "used_by"),
    [
        ("prefect.context", "SettingsContext", "tasks/report_errors.py"),
        ("prefect.context", "get_settings_context", "tasks/report_errors.py"),
        ("prefect.context", "refresh_global_settings_context", "tests/commands.py"),
        ("prefect.events.worker", "EventsWorker", "tests/conftest.py"),
        ("prefect.logging.handlers", "APILogHandler", "tests/conftest.py"),
        ("prefect.exceptions", "Pause", "tasks/waiting.py"),
        ("prefect.futures", "PrefectConcurrentFuture", "tasks/waiting.py"),
        ("prefect.server.api.server", "create_app", "cli/prefect_process.py"),
        ("prefect.utilities.callables", "parameter_schema", "flows/form.py"),
    ],
)
def test_prefect_has_the_names_that_it_does_not_promise(module: str, name: str, used_by: str) -> None:
    assert hasattr(import_module(module), name), f"Prefect {prefect.__version__} has no {module}.{name}: see {used_by}"


def test_requests_of_reports_have_two_retries_at_most() -> None:
    with few_retries():
        assert PREFECT_CLIENT_MAX_RETRIES.value() == 2, "Prefect's settings are elsewhere: see tasks/report_errors.py"


def test_a_flow_run_logs_where_its_redundant_tracebacks_are_filtered() -> None:
    logging = yaml.safe_load(files("prefect.logging").joinpath("logging.yml").read_text())
    assert "prefect.flow_runs" in logging["loggers"], (
        "Flow runs log elsewhere: see `_hide_traceback` in flows/outcome.py"
    )


def test_a_process_learns_its_flow_run_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "4711")
    assert flow_run.id == "4711", "Prefect names the run of a process elsewhere: see tests/test_stopping.py"


def test_prefect_calls_a_suspended_run_as_the_automations_do() -> None:
    assert prefect.states.Suspended().name == SUSPENDED, "see SUSPENDED in tasks/states.py"
