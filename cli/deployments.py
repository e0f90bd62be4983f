"""The deployments of prefect.yaml on a Prefect server, with what an operator has changed there."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule

from tasks.deployed_version import deployed_version
from venclient.errors import ConfigurationError

PROJECT = Path(__file__).parents[1]  # a checkout, or where a wheel was installed: both have prefect.yaml
MOST = 200  # that one request lists


def are_current() -> bool:
    """Whether all deployments are those of this version and folder: schedules and parameters stay as they are there."""
    with chdir(PROJECT):
        version = deployed_version()["version"]
    there = {
        (each.name, each.entrypoint)
        for each in _deployments()
        if each.version == version and str(PROJECT) in str(each.pull_steps)
    }
    wanted = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    return there.issuperset((each["name"], each["entrypoint"]) for each in wanted)


def deploy(environment: Mapping[str, str]) -> None:
    """Create or update the deployments; schedules that were paused stay so. Raises `ConfigurationError`."""
    before = _deployments()
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    deployed = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    if deployed.returncode:
        raise ConfigurationError(f"The deployments could not be made: {(deployed.stderr or deployed.stdout).strip()}")
    paused = {each.id for each in before if each.schedules and not any(schedule.active for schedule in each.schedules)}
    with get_client(sync_client=True) as client:
        for each in _deployments():
            for schedule in each.schedules if each.id in paused else ():
                client.update_deployment_schedule(each.id, schedule.id, active=False)


def started_by_schedule() -> list[str]:
    """Return what starts by itself, as text: `nightly (0 2 * * * Europe/Copenhagen)`."""
    active = [
        (each.name, schedule.schedule) for each in _deployments() for schedule in each.schedules if schedule.active
    ]
    return [f"{name} ({_in_words(schedule)})" for name, schedule in active]


def _in_words(schedule: object) -> str:
    cron = schedule.cron if isinstance(schedule, CronSchedule) else str(schedule)
    return f"{cron} {getattr(schedule, 'timezone', None) or 'UTC'}"


def _deployments() -> Sequence[DeploymentResponse]:
    with get_client(sync_client=True) as client:
        return client.read_deployments(limit=MOST)
