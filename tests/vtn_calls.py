"""The VTN's calls as a client makes them, bare of any client of ours, and points to make them with."""

import base64
from datetime import UTC, datetime
from typing import Any

import requests

from tests.reference_vtn import ReferenceVtn

HOUR_S = 3600
START_S = 1_736_928_000  # 2025-01-15T08:00:00Z

Points = list[dict[str, Any]]


def iso(unix_s: int) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def point(start_s: int, value: float, interval_s: int = HOUR_S, quality_code: str = "GOOD") -> dict[str, Any]:
    return {
        "interval_start": iso(start_s),
        "interval_end": iso(start_s + interval_s),
        "value": value,
        "quality_code": quality_code,
    }


def hours(count: int, value: float = 620.0) -> Points:
    return [point(START_S + n * HOUR_S, value + n) for n in range(count)]


def upload(
    vtn: ReferenceVtn,
    resource_id: str | None,
    points: object,
    *,
    token: str | None = None,
    timeout_s: float = 30,
    allow_redirects: bool = True,
    **params: str | int,
) -> requests.Response:
    with vtn.session(token) as session:
        return session.post(
            f"{vtn.base_url}/report_data/bulk",
            params={"resource_id": resource_id, **params},
            json=points,
            timeout=timeout_s,
            allow_redirects=allow_redirects,
        )


def read_back(vtn: ReferenceVtn, resource_id: str, **bounds: str) -> Points:
    with vtn.session() as session:
        answer = session.get(f"{vtn.base_url}/report_data", params={"resource_id": resource_id, **bounds})
    assert answer.status_code == 200, answer.text
    points: Points = answer.json()
    return points


def create_ven(vtn: ReferenceVtn, ven_name: str, token: str | None = None) -> requests.Response:
    with vtn.session(token) as session:
        ven = {"ven_name": ven_name, "client_name": f"Client_{ven_name}"}
        return session.post(f"{vtn.base_url}/vens", json=ven)


def fetch_token(
    vtn: ReferenceVtn, user: str, password: str, grant_type: str = "client_credentials"
) -> requests.Response:
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    return requests.post(
        vtn.token_url, data={"grant_type": grant_type}, headers={"Authorization": f"Basic {basic}"}, timeout=10
    )
