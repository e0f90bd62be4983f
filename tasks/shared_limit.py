"""The VTN's limit, kept by all processes together: a Prefect global concurrency limit, a slot for a request in flight.

Taking a slot and giving it back costs Prefect some 30 ms, so a process keeps the slots that it uses, for a minute; then
others have their chance. A slot that nobody renews, because its process was killed, is free again after a minute.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Condition, Event, Thread
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectAlreadyExists, PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from venclient.errors import StoppedError

log = logging.getLogger(__name__)

LIMIT = "bulk-upload-vtn"
# The guide's VTN takes so many requests at a time; where the limit is there already, it stays as it is.
REQUESTS_AT_A_TIME = 8
LEASE_S = 60.0
RENEW_EVERY_S = 20.0
KEPT_FOR_S = 60.0
IDLE_AFTER_S = 5.0
ASK_EVERY_S = 2.0
LOOK_EVERY_S = 0.2
TAKEN_OR_BUSY = (423, 429, 503)
GONE = (404, 410)


@dataclass(eq=False, slots=True)
class _Slot:
    lease_id: UUID
    taken: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    renewed: float = field(default_factory=time.monotonic)
    is_lost: bool = False


class SharedLimit:
    """This process's slots of the limit, for any number of threads; one more thread talks to Prefect about them."""

    def __init__(self, client: SyncPrefectClient, stopped: Event) -> None:
        self._client = client
        self._stopped = stopped
        self._changed = Condition()
        self._wanted = 0
        self._slots: list[_Slot] = []
        self._free: list[_Slot] = []
        self._ask_again_at = 0.0

    @property
    def waiting_for(self) -> str | None:
        """What every thread waits for; None when one has a slot, or nobody wants one."""
        return f"a slot of the Prefect limit '{LIMIT}'" if self._wanted and not self._slots else None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Within, this thread has a slot; raises `StoppedError` when the run is stopped while it waits."""
        slot = self._take()
        try:
            yield
        finally:
            with self._changed:
                slot.used = time.monotonic()
                self._free.append(slot)
                self._changed.notify_all()

    @contextmanager
    def tended(self) -> Iterator[None]:
        """Within, slots are asked for, renewed while they are used, and given back when they are not."""
        ended = Event()

        def tend() -> None:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # it asks again by itself
                while not ended.is_set():
                    self._tend()
                for slot in self._slots.copy():
                    self._release(slot)

        thread = Thread(target=copy_context().run, args=(tend,), name="limit", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _take(self) -> _Slot:
        with self._changed:
            self._wanted += 1
            self._changed.notify_all()
            try:
                while not (fresh := [slot for slot in self._free if _is_fresh(slot)]):
                    if self._stopped.is_set():
                        raise StoppedError("The run was told to stop while it waited for its turn")
                    self._changed.wait(LOOK_EVERY_S)
                self._free.remove(fresh[-1])
                return fresh[-1]
            finally:
                self._wanted -= 1

    def _tend(self) -> None:
        now = time.monotonic()
        with self._changed:
            leaving = [slot for slot in self._free if not _is_fresh(slot) or now - slot.used > IDLE_AFTER_S]
            self._free = [slot for slot in self._free if slot not in leaving]
            is_short = self._wanted > len(self._free)
        for slot in leaving:
            self._release(slot)
        for slot in self._slots:
            if now - slot.renewed > RENEW_EVERY_S:
                self._renew(slot)
        if is_short and now >= self._ask_again_at:
            self._ask()
        else:
            with self._changed:
                self._changed.wait(LOOK_EVERY_S)

    def _ask(self) -> None:
        try:
            answer = self._client.increment_concurrency_slots_with_lease([LIMIT], 1, "concurrency", LEASE_S)
            lease_id = UUID(answer.json()["lease_id"])
        except (httpx.HTTPError, PrefectException, ValueError, LookupError, TypeError) as error:
            self._ask_again_at = time.monotonic() + ASK_EVERY_S
            if not _says(error, *TAKEN_OR_BUSY):
                log.warning("No slot of the Prefect limit '%s': %s: %s", LIMIT, type(error).__name__, error)
            return
        with self._changed:
            slot = _Slot(lease_id)
            self._slots.append(slot)
            self._free.append(slot)
            self._changed.notify_all()

    def _renew(self, slot: _Slot) -> None:
        slot.renewed = time.monotonic()
        try:
            self._client.renew_concurrency_lease(slot.lease_id, LEASE_S)
        except (httpx.HTTPError, PrefectException) as error:
            slot.is_lost = _says(error, *GONE)  # a Prefect that is away gives it to nobody else
            log.warning("A slot of the Prefect limit '%s' was not renewed: %s", LIMIT, error)

    def _release(self, slot: _Slot) -> None:
        self._slots.remove(slot)
        with suppress(httpx.HTTPError, PrefectException):  # it comes free by itself
            self._client.release_concurrency_slots_with_lease(slot.lease_id)


@contextmanager
def shared_limit(stopped: Event) -> Iterator[SharedLimit]:
    """The limit, made where it is not there; its slots are given back at the end."""
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_global_concurrency_limit(
                GlobalConcurrencyLimitCreate(name=LIMIT, limit=REQUESTS_AT_A_TIME, active=True)
            )
        limit = SharedLimit(client, stopped)
        with limit.tended():
            yield limit


def _is_fresh(slot: _Slot) -> bool:
    return not slot.is_lost and time.monotonic() - slot.taken < KEPT_FOR_S


def _says(error: Exception, *statuses: int) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in statuses
