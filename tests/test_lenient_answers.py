"""An answer is read for what is needed of it, whatever else is odd about it; and believed only where it fits."""

import json
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from pydantic import SecretStr

from tests.small_server import answering
from tests.untrusted_server import OK, TOKEN, read_request, reply, saying, talking
from venclient.errors import PermanentError, RejectedError, TransientError
from venclient.wires.auth import ClientCredentials, GivenToken
from venclient.wires.bulk import BulkWire
from venclient.wires.bulk.answers import Resource
from venclient.wires.lenient_json import batches, decoded

SENT = 48
ID = "7f0a-vtn"
RESOURCE = {"external_resource_id": "r_load_0", "ven_name": "Aalborg"}


def _said(**more: object) -> bytes:
    return json.dumps({"message": "stored", "resource_id": ID, "entries_created": SENT, **more}).encode()


def _vtn(url: str, attempts: int = 1) -> BulkWire:
    return BulkWire(url, GivenToken(SecretStr(TOKEN)), attempts=attempts, retry_wait_s=0.001, outage_patience_s=1)


RIGHT = {
    "byte-order-mark": OK + b"\xef\xbb\xbf" + _said(),
    "utf-16": OK + _said().decode().encode("utf-16"),
    "nan": OK + _said(throughput_points_per_second=math.nan),
    "infinity": OK + _said(duration_seconds=0.0, throughput_points_per_second=math.inf),
    "minus-infinity": OK + _said(throughput_points_per_second=-math.inf),
    "beyond-a-float": OK + _said().replace(b'"stored"', b"1e400"),
    "count-as-a-float": OK + _said(entries_created=48.0),
    "count-as-text": OK + _said(entries_created="48"),
    "latin-1": OK + _said().replace(b"stored", "Zähler".encode("latin-1")),
    "latin-1-and-nan": OK + _said(x=math.nan).replace(b"stored", "Zähler".encode("latin-1")),
    "line-break-in-text": OK + _said().replace(b"stored", b"stored\r\n\tall"),
    "lone-surrogate": OK + _said().replace(b"stored", b"\\ud800"),
    "key-twice": OK + _said().replace(b'"message"', b'"message": 1, "message"'),
    "processing": b"HTTP/1.1 102 Processing\r\n\r\n" + OK + _said(),
    "early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + OK + _said(),
    "all-of-1xx": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK + _said(),
    "header-over-three-lines": b"HTTP/1.1 201 Created\r\nX: a\r\n b\r\n\tc: d\r\nConnection: close\r\n\r\n" + _said(),
    "header-without-value": b"HTTP/1.1 201 Created\r\nX:\r\nConnection:close \r\n\r\n" + _said(),
    "lines-without-carriage-return": (OK + _said()).replace(b"\r\n", b"\n"),
    "another-content-type": reply("201 Created", "Content-Type: text/html; charset=utf-16", body=_said()),
    "200": reply("200 OK", body=_said()),
    "no-resource": OK + _said(resource_id=None),
    "resource-in-capitals": OK + _said(resource_id=ID.upper()),
}


@pytest.mark.parametrize("answer", RIGHT.values(), ids=RIGHT.keys())
def test_a_right_answer_is_taken_at_once_whatever_else_is_odd_about_it(answer: bytes) -> None:
    with talking(saying(answer)) as url, _vtn(url) as vtn:
        assert vtn.upload(ID, b"[]", SENT, 5_000).answers == ("201",) or b" 200 " in answer


UNFIT = {
    "more-than-were-sent": OK + _said(entries_created=49),
    "far-more": OK + _said(entries_created=1e300),
    "less-than-none": OK + _said(entries_created=-48),
    "not-whole": OK + _said(entries_created=47.5),
    "not-a-number": OK + _said(entries_created=math.nan),
    "a-number-out-of-bounds": OK + _said().replace(b"48", b"1e400"),
    "true": OK + _said(entries_created=True),
    "another-resource": OK + _said(resource_id="another"),
    "another-number": OK + _said(resource_id=17),
    "202": reply("202 Accepted", body=_said()),
    "203": reply("203 Transformed", body=_said()),
    "204": reply("204 No Content"),
    "207": reply("207 Multi-Status", body=_said()),
    "226": reply("226 IM Used", body=_said()),
}


@pytest.mark.parametrize("answer", UNFIT.values(), ids=UNFIT.keys())
def test_an_answer_that_does_not_fit_is_tried_again_and_never_an_acknowledgement(answer: bytes) -> None:
    asked: list[bytes] = []

    def say(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield answer

    with talking(say) as url, _vtn(url, attempts=3) as vtn, pytest.raises(TransientError) as failure:
        vtn.upload(ID, b"[]", SENT, 5_000)
    assert len(asked) == 3
    assert str(failure.value).isprintable()


def test_a_202_is_said_to_be_no_acknowledgement() -> None:
    with (
        talking(saying(UNFIT["202"])) as url,
        _vtn(url) as vtn,
        pytest.raises(TransientError, match="accepted, but it does not say that it is done"),
    ):
        vtn.upload(ID, b"[]", SENT, 5_000)


def test_an_empty_answer_is_said_to_be_empty() -> None:
    with (
        talking(saying(reply("201 Created"))) as url,
        _vtn(url) as vtn,
        pytest.raises(TransientError, match=r"^201, but the answer is empty$"),
    ):
        vtn.upload(ID, b"[]", SENT, 5_000)


def test_fewer_than_were_sent_are_still_points_that_the_vtn_refuses() -> None:
    with (
        talking(saying(OK + _said(entries_created="47"))) as url,
        _vtn(url) as vtn,
        pytest.raises(RejectedError, match="took 47 of 48"),
    ):
        vtn.upload(ID, b"[]", SENT, 5_000)


@contextmanager
def _answering_once_too_often(first: bytes, unasked: bytes, then: bytes) -> Iterator[str]:
    """A server whose connections say `first`, and `unasked` when they are used again; the second one says `then`."""
    opened: list[socket.socket] = []

    def serve(connection: socket.socket, answers: list[bytes]) -> None:
        with suppress(OSError), connection:
            for answer in answers:
                read_request(connection)
                connection.sendall(answer)

    def accept() -> None:
        with suppress(OSError):
            while True:
                opened.append(listener.accept()[0])
                answers = [first, unasked] if len(opened) == 1 else [then, then]
                threading.Thread(target=serve, args=(opened[-1], answers), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _kept(line: str, body: bytes) -> bytes:
    """An answer after which the connection is kept."""
    return reply(line, body=body).replace(b"Connection: close\r\n", b"")


REFUSED = _kept("400 Bad Request", b"{}")


@pytest.mark.parametrize("named", [None, "another", ID], ids=["nobody", "another", "the-first"])
def test_a_second_answer_to_one_request_is_not_taken_for_that_to_the_next(named: str | None) -> None:
    """It comes when the next request is on its way, which only what it says can tell; points of that are refused."""
    first = _kept("201 Created", _said(resource_id=None if named is None else ID))
    unasked = _kept("201 Created", _said(resource_id=named))
    with _answering_once_too_often(first, unasked, REFUSED) as url, _vtn(url, attempts=2) as vtn:
        vtn.upload(ID, b"[]", SENT, 5_000)
        with pytest.raises(PermanentError, match="400"):
            vtn.upload("the-next", b"[]", SENT, 5_000)


def test_a_resource_is_not_given_the_id_of_another() -> None:
    other = json.dumps({"id": "v-1", "external_resource_id": "another"}).encode()
    with (
        talking(saying(OK + other)) as url,
        _vtn(url) as vtn,
        pytest.raises(TransientError, match="not to this request: it names resource another"),
    ):
        vtn.create_resource(RESOURCE)


@pytest.mark.parametrize(
    ("said", "id_"),
    [
        (b'{"id": 17}', "17"),
        (b'{"id": 17.0}', "17"),
        (b'\xef\xbb\xbf{"id": "v-1", "location": [NaN, 57.1]}', "v-1"),
        (b'{"id": "v-1", "name": "Gr\xf8n", "external_resource_id": null}', "v-1"),
    ],
    ids=["number", "float", "nan", "latin-1"],
)
def test_a_resource_id_is_read_as_leniently(said: bytes, id_: str) -> None:
    with talking(saying(OK + said)) as url, _vtn(url) as vtn:
        assert vtn.create_resource(RESOURCE) == id_


def test_a_resource_that_exists_is_found_in_a_list_of_any_size() -> None:
    """Of a VTN that lists all that it has, in Latin-1, with a NaN in it and ids that are numbers."""
    listed = [
        {"id": number, "external_resource_id": f"r_{number}", "attributes": [{"a": []}] * 9} for number in range(9000)
    ]
    listed[7] |= {"longitude": math.nan, "name": "Gr\xf8n"}
    listed[8000] |= RESOURCE
    text = json.dumps(listed, ensure_ascii=False).encode("latin-1")

    def say(request: bytes) -> Iterator[bytes]:
        yield reply("409 Conflict") if request.startswith(b"POST") else reply("200 OK", body=text)

    with talking(say) as url, _vtn(url) as vtn:
        assert vtn.create_resource(RESOURCE) == "8000"


@pytest.mark.parametrize(
    "said",
    [b'\xef\xbb\xbf{"access_token": "good"}', b'{"access_token": "good", "expires_in": Infinity, "scope": NaN}',
     b'{"access_token": "good", "user": "S\xf8ren"}', '{"access_token": "good"}'.encode("utf-16")],
    ids=["byte-order-mark", "infinity", "latin-1", "utf-16"],
)  # fmt: skip
def test_a_token_is_read_as_leniently(said: bytes) -> None:
    with talking(saying(reply("200 OK", body=said))) as url:
        assert ClientCredentials(url, "id", SecretStr("secret")).token() == "good"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_is_the_same_in_whatever_parts_it_comes(encoding: str, indent: int | None) -> None:
    told = [
        {
            "id": f"{number} }}, {{ ]",
            "external_resource_id": f'Grøn\\"{number}',
            "more": [{"a": {}}, "}"],
            "nan": number,
        }
        for number in range(6_000)
    ]
    text = json.dumps(told, ensure_ascii=False, indent=indent).encode(encoding)
    for size in (1_000, 64 * 2**10, len(text)):
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        found = [each for batch in batches(parts, Resource) for each in batch]
        assert [(each.id, each.external_resource_id) for each in found] == [
            (each["id"], each["external_resource_id"]) for each in told
        ]


@pytest.mark.parametrize("text", [b"", b"[", b'[{"id": 1}', b'[{"id": 1},]', b'[{"id": 1}] x', b"[" * 10**6, b"<html>"])
def test_what_is_no_list_is_none(text: bytes) -> None:
    for read in (lambda: list(batches([text], Resource)), lambda: decoded(text, list[Resource])):
        with pytest.raises(ValueError):  # noqa: PT011 - any of its kind
            read()


def test_a_vtn_that_lists_something_else_is_there_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    with answering(lambda _method, _path: (200, {"resources": []})) as url, _vtn(url) as vtn:
        vtn.check()
    assert "is this the VTN's base address?" in caplog.text
