"""A short part of `make chaos`: one round of each kind, of the same dice each time."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos_rounds import KINDS, clock_set_to
from tests.chaos_world import World
from tests.system_postgresql import SERVERS

SEED = 20250115
# A run that is frozen for longer than its lease takes 40 s: tests/test_lease.py has it in short.
ALWAYS = ("run killed",)
SHORT = [pytest.param(kind, marks=() if kind in ALWAYS else pytest.mark.long) for kind in KINDS if kind != "run frozen"]


@pytest.fixture(scope="module")
def world(prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("chaos"), prefect_url) as made:
        yield made


@pytest.mark.parametrize("kind", SHORT)
def test_after_it_everything_is_as_it_should_be(world: World, kind: str) -> None:
    if kind == "database killed" and not SERVERS:
        pytest.skip("there is no PostgreSQL here that can be killed")
    if kind == "disk full" and (os.geteuid() or not shutil.which("mount")):
        pytest.skip("a small disk takes root")
    world.play(list(KINDS).index(kind), kind, SEED, KINDS[kind])


@pytest.fixture(scope="module", params=["openadr-3.1", pytest.param("openadr-3.0.1", marks=pytest.mark.long)])
def standard_world(
    request: pytest.FixtureRequest, prefect_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("chaos"), prefect_url, request.param) as made:
        yield made


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind == "faults" else pytest.mark.long) for kind in KINDS if kind != "run frozen"],
)
def test_after_it_everything_is_as_it_should_be_over_a_standard_wire(standard_world: World, kind: str) -> None:
    test_after_it_everything_is_as_it_should_be(standard_world, kind)


@pytest.mark.long
def test_a_second_round_of_random_faults(world: World) -> None:
    world.play(100, "faults", SEED, KINDS["faults"])


def test_the_other_clock_is_as_far_off_as_its_file_says(tmp_path: Path) -> None:
    code = "import time; print(time.time()); time.sleep(1.5); print(time.time())"
    clock = tmp_path / "clock"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | clock_set_to(864_000, clock)
    ) as process:
        assert process.stdout
        before = float(process.stdout.readline())
        clock.write_text("-864000")
        after = float(process.stdout.readline())
    assert abs(before - time.time() - 864_000) < 60
    assert abs(after - time.time() + 864_000) < 60
