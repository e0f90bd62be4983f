"""How many threads are at work, by how busy they keep the interpreter."""

import pytest

from tasks.useful_threads import WINDOW_S, UsefulThreads


class Process:
    """A process with a clock, which uses so much CPU a second."""

    def __init__(self, bears: int, at_most: int) -> None:
        self.bears = bears
        self.now_s = self.cpu_s = 100.0
        self.threads = UsefulThreads(lambda: self.bears, at_most, now_s=lambda: self.now_s, cpu_s=lambda: self.cpu_s)
        assert self.threads.number() == min(2, bears, at_most)

    def after_a_window(self, busy: float) -> int:
        self.now_s += WINDOW_S
        self.cpu_s += busy * WINDOW_S
        return self.threads.number()


@pytest.fixture
def process() -> Process:
    process = Process(bears=8, at_most=16)
    assert [process.after_a_window(0.1) for _ in range(4)] == [4, 8, 8, 8]
    return process


def test_a_run_begins_with_few() -> None:
    assert [Process(bears=8, at_most=at_most).threads.number() for at_most in (1, 16)] == [1, 2]


def test_as_many_as_the_vtn_bears_while_the_interpreter_has_room(process: Process) -> None:
    assert [process.after_a_window(busy) for busy in (0.02, 0.3, 0.6, 0.74)] == [8, 8, 8, 8]
    process.bears = 16
    assert process.threads.number() == 16
    process.bears = 3
    assert process.threads.number() == 3


def test_fewer_and_fewer_where_it_is_busy_but_never_none(process: Process) -> None:
    assert [process.after_a_window(0.95) for _ in range(5)] == [4, 2, 1, 1, 1]
    assert process.after_a_window(0.8) == 1  # busy enough that another would be in the way


def test_they_come_back_when_it_is_not_busy_any_more(process: Process) -> None:
    for _ in range(5):
        process.after_a_window(0.95)
    assert [process.after_a_window(0.1) for _ in range(5)] == [2, 4, 8, 8, 8]


def test_what_keeps_other_cores_busy_is_left_alone(process: Process) -> None:
    assert [process.after_a_window(busy) for busy in (1.2, 1.9, 3.5)] == [8, 8, 8]


def test_work_that_goes_without_the_interpreter_gets_its_threads_back(process: Process) -> None:
    for _ in range(5):
        process.after_a_window(0.95)
    numbers = [process.after_a_window(0.95 * min(process.threads.number(), 2)) for _ in range(50)]
    assert numbers[:20] == [1] * 20
    assert numbers[-1] == 8


def test_nothing_is_judged_before_a_window_is_over(process: Process) -> None:
    process.now_s += WINDOW_S / 2
    process.cpu_s += WINDOW_S / 2
    assert process.threads.number() == 8
