"""What the reference VTN promises of compressed bodies: gzip is taken as if it was none, and nothing gets too large."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.reference_vtn import ReferenceVtn
from tests.vtn_calls import hours, read_back

GZIPPED = gzip.compress(json.dumps(hours(1)).encode())


@pytest.fixture(scope="module")
def http(vtn: ReferenceVtn) -> Iterator[requests.Session]:
    with vtn.session() as session:
        yield session


@pytest.mark.parametrize("encoding", ["gzip", "GZip", "x-gzip"])
def test_a_body_in_gzip_is_taken_as_it_was_before(vtn: ReferenceVtn, http: requests.Session, encoding: str) -> None:
    resource_id = vtn.add_resource()
    answer = _post_bulk(vtn, http, resource_id, gzip.compress(json.dumps(hours(9)).encode()), encoding)
    assert (answer.status_code, answer.json()["entries_created"]) == (201, 9)
    assert answer.headers["Accept-Encoding"] == "gzip"
    assert read_back(vtn, resource_id) == hours(9)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_a_body_in_another_encoding_is_refused_and_told_which_is_taken(
    vtn: ReferenceVtn, http: requests.Session, encoding: str
) -> None:
    answer = _post_bulk(vtn, http, vtn.add_resource(), json.dumps(hours(1)).encode(), encoding)
    assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "gzip")


@pytest.mark.parametrize("path", ["/report_data/bulk", "/vens"], ids=["bulk", "any other call"])
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", GZIPPED[:30], GZIPPED[:-1], GZIPPED[:-8] + bytes(8), GZIPPED + b"x", GZIPPED + GZIPPED],
    ids=["nothing", "plain", "cut-off", "without-its-end", "wrong-checksum", "and-more", "twice"],
)
def test_what_is_no_gzip_is_refused(vtn: ReferenceVtn, http: requests.Session, body: bytes, path: str) -> None:
    resource_id = vtn.add_resource()
    answer = _post_bulk(vtn, http, resource_id, body, "gzip", path)
    assert (answer.status_code, answer.json()["detail"][:9]) == (400, "Not gzip:")
    assert read_back(vtn, resource_id) == []


@pytest.mark.parametrize("path", ["/report_data/bulk", "/vens"], ids=["bulk", "any other call"])
def test_what_gets_larger_than_16_mib_is_refused_before_it_does(
    vtn: ReferenceVtn, http: requests.Session, path: str
) -> None:
    resource_id, before = vtn.add_resource(), _peak_bytes(vtn)
    assert _post_bulk(vtn, http, resource_id, _bomb(), "gzip", path).status_code == 413
    assert _peak_bytes(vtn) - before < 100 * 2**20


def _post_bulk(
    vtn: ReferenceVtn,
    http: requests.Session,
    resource_id: str,
    body: bytes,
    encoding: str,
    path: str = "/report_data/bulk",
) -> requests.Response:
    params, headers = {"resource_id": resource_id}, {"Content-Encoding": encoding}
    return http.post(f"{vtn.base_url}{path}", params=params, data=body, headers=headers)


def _bomb() -> bytes:
    """Half a GiB of spaces, in half a MiB."""
    deflating, spaces = zlib.compressobj(wbits=31), b" " * 2**20
    return b"".join([*(deflating.compress(spaces) for _ in range(512)), deflating.flush()])


def _peak_bytes(vtn: ReferenceVtn) -> int:
    """The most memory that the process has had (Linux)."""
    told = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{vtn.pid}/status").read_text())
    return 1024 * int(told[1]) if told else 0
