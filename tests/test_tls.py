"""Promises about TLS: no server is talked to whose certificate does not verify, and an operator's own CA is enough."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from config.connections import open_wire
from config.settings import Settings
from tests.untrusted_server import ENDED, TOKEN, Answer, saying, slowly, talking
from venclient.errors import ConfigurationError, TransientError
from venclient.wires.auth import ClientCredentials, GivenToken
from venclient.wires.bulk import BulkWire
from venclient.wires.deadlines import TimeLimits
from venclient.wires.http import Call, HttpClient, answer_of

TAKEN = b"HTTP/1.1 201 Created\r\nContent-Length: 22\r\n\r\n" + b'{"entries_created": 1}'
GIVEN = GivenToken(SecretStr(TOKEN))


class Authority:
    """A CA in a folder, such as an operator has."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "The operator's own CA")])
        self._folder = folder
        self.file = folder / "ca.pem"
        self.file.write_text("# Æ: a remark, as `openssl x509 -text` leaves them\n")
        with self.file.open("ab") as file:
            file.write(self._sign(self._name, self._key.public_key(), 3650, None).public_bytes(PEM))

    def server(self, name: str = "127.0.0.1", days: int = 30) -> ssl.SSLContext:
        """What a server of this name shows, for so many days from 31 days ago where they are negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        common_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        file = self._folder / f"{name}{days}.pem"
        file.write_bytes(
            self._sign(common_name, key.public_key(), days, name).public_bytes(PEM)
            + key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int, name: str | None
    ) -> x509.Certificate:
        until = datetime.now(UTC) + timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - timedelta(days=4000))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=name is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if name is None:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        else:
            names = [x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


PEM = serialization.Encoding.PEM


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An operator's own CA."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(autouse=True)
def no_other_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine's environment says of certificates and proxies is not part of a test."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def _listening(answer: bytes) -> tuple[Answer, list[bytes]]:
    asked: list[bytes] = []

    def heard(request: bytes) -> Iterator[bytes]:
        asked.append(request)
        yield answer

    return heard, asked


def test_a_ca_of_the_operators_own_is_enough_for_vtn_and_token_server(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = b"HTTP/1.1 200 OK\r\n" + ENDED + b'{"access_token": "fetched"}'
    vtn_hears, asked = _listening(TAKEN)
    with talking(vtn_hears, authority.server()) as url, talking(saying(tokens), authority.server()) as token_url:
        monkeypatch.setenv("VTN_SERVER_ADDRESS", url)
        monkeypatch.setenv("OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL", token_url)
        monkeypatch.setenv("OAUTH_CLIENT_ID", "id")
        monkeypatch.setenv("OAUTH_CLIENT_SECRET", "secret")
        monkeypatch.setenv("BULK_UPLOAD_CA_FILE", str(authority.file))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())  # it comes besides, and not in its place
        with open_wire(Settings.load()) as wire:
            assert cast(BulkWire, wire).upload("id", b"[{}]", 1, 5_000).points == 1
    assert b"Bearer fetched" in asked[0]


@pytest.mark.parametrize(
    ("name", "days", "is_trusted", "why"),
    [
        ("127.0.0.1", 30, False, "unable to get local issuer certificate"),
        ("127.0.0.2", 30, True, "mismatch"),
        ("vtn.example", 30, True, "mismatch"),
        ("127.0.0.1", -1, True, "expired"),
        ("127.0.0.1", 5000, True, "not yet valid"),
    ],
    ids=["unknown-ca", "another-address", "another-name", "expired", "not-yet-valid"],
)
def test_a_certificate_that_does_not_verify_ends_the_run_at_once_and_nothing_is_sent(
    authority: Authority, name: str, days: int, is_trusted: bool, why: str
) -> None:
    hears, asked = _listening(TAKEN)
    ca_file = str(authority.file) if is_trusted else None
    with talking(hears, authority.server(name, days)) as url:
        with (
            BulkWire(url, GIVEN, ca_file=ca_file) as vtn,
            pytest.raises(ConfigurationError, match=rf"{url} is not trusted: .*{why}.*BULK_UPLOAD_CA_FILE"),
        ):
            vtn.upload("id", b"[{}]", 1, 5_000)
        tokens = ClientCredentials(url, "id", SecretStr("secret"), ca_file=ca_file)
        with pytest.raises(ConfigurationError, match=rf"{url} is not trusted: .*{why}.*BULK_UPLOAD_CA_FILE"):
            tokens.token()
    assert not asked


@contextmanager
def _proxying(target: str) -> Iterator[tuple[str, bytearray]]:
    """A proxy that opens tunnels to this server, whatever is asked for; and all that it is told."""
    seen = bytearray()

    def relay(source: socket.socket, sink: socket.socket, record: bytearray) -> None:
        with suppress(OSError):
            while part := source.recv(65_536):
                record += part
                sink.sendall(part)

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as client, socket.create_connection(("127.0.0.1", urlsplit(target).port)) as server:
            seen.extend(client.recv(65_536))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Thread(target=relay, args=(server, client, bytearray()), daemon=True).start()
            relay(client, server, seen)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen


def test_tls_that_is_none_is_trouble_with_the_connection_and_not_with_trust() -> None:
    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        http = HttpClient(f"https://127.0.0.1:{listener.getsockname()[1]}", GIVEN)
        with pytest.raises(TransientError, match="No connection"):
            http.exchange(Call("POST", "/x", body=b"[]"), 2)
        http.close()


@pytest.mark.parametrize("content", [None, b"", b"not PEM", b"-----BEGIN CERTIFICATE-----\nrubbish\n"])
def test_a_ca_file_without_a_certificate_is_told_before_anything_is_sent(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    monkeypatch.setenv("BULK_UPLOAD_CA_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("VTN_SERVER_ADDRESS", "https://vtn.example")
    monkeypatch.setenv("VTN_BEARER_TOKEN", "token")
    with pytest.raises(ConfigurationError, match=r"ca\.pem: .*BULK_UPLOAD_CA_FILE"):
        open_wire(Settings.load())
    with pytest.raises(ConfigurationError, match=r"ca\.pem: .*BULK_UPLOAD_CA_FILE"):
        ClientCredentials("https://vtn.example", "id", SecretStr("secret"), ca_file=str(tmp_path / "ca.pem"))


def test_requests_ca_bundle_holds_where_the_setting_names_none(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with talking(saying(TAKEN), authority.server()) as url:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
        with BulkWire(url, GIVEN) as vtn:
            assert vtn.upload("id", b"[{}]", 1, 5_000).points == 1
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
        no_such_file = pytest.raises(ConfigurationError, match=r"/nowhere\.pem.*REQUESTS_CA_BUNDLE")
        with BulkWire(url, GIVEN) as vtn, no_such_file:
            vtn.upload("id", b"[{}]", 1, 5_000)


@pytest.mark.parametrize("is_cut", [False, True], ids=["by-its-deadline", "by-a-stop"])
def test_a_handshake_that_goes_byte_by_byte_is_cut_off(is_cut: bool) -> None:
    def serve(listener: socket.socket) -> None:
        with suppress(OSError), listener.accept()[0] as connection:
            connection.sendall(b"\x16\x03\x03\x3f\xff")  # a handshake record of 16 kB
            while True:
                connection.sendall(b"\x02")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        limits = TimeLimits(connect_s=3600 if is_cut else 0.5)
        http = HttpClient(f"https://127.0.0.1:{listener.getsockname()[1]}", GIVEN, limits=limits)
        threading.Timer(0.5, http.cut if is_cut else bool).start()
        with pytest.raises(TransientError, match="No connection"):
            http.exchange(Call("POST", "/x", body=b"[]"), 3600)
        http.close()


@pytest.mark.parametrize("start", [b"HTTP/1.1 201 Created\r\nX: ", b"HTTP/1.1 201 Created\r\n" + ENDED + b"{}"])
def test_an_answer_over_tls_that_comes_byte_by_byte_is_cut_off(authority: Authority, start: bytes) -> None:
    with talking(slowly(start, b" "), authority.server()) as url:
        http = HttpClient(url, GIVEN, ca_file=str(authority.file))
        with pytest.raises(TransientError, match=r"Timeout after 0\.5 s"):
            http.exchange(Call("POST", "/x", body=b"[]"), 0.5)
        http.close()


def test_a_large_body_goes_over_tls_whole_and_the_connection_serves_again(authority: Authority) -> None:
    heard: list[int] = []

    def serve(listener: socket.socket, context: ssl.SSLContext) -> None:
        with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
            for _ in range(2):
                received = b""
                while not received.endswith(b"the end"):
                    received += connection.recv(65_536)
                heard.append(len(received.partition(b"\r\n\r\n")[2]))
                connection.sendall(TAKEN)

    body = bytes(3_000_000) + b"the end"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener, authority.server()), daemon=True)
        serving.start()
        http = HttpClient(f"https://127.0.0.1:{listener.getsockname()[1]}", GIVEN, ca_file=str(authority.file))
        for _ in range(2):
            assert answer_of(*http.exchange(Call("POST", "/x", body=body), 10)) == {"entries_created": 1}
        serving.join()
        http.close()
    assert heard == [len(body)] * 2


def test_a_proxy_is_gone_through_and_sees_no_token(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    hears, asked = _listening(TAKEN)
    with talking(hears, authority.server("vtn.example")) as url, _proxying(url) as (proxy, seen):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with BulkWire("https://vtn.example/openadr3", GIVEN, ca_file=str(authority.file)) as vtn:
            assert vtn.upload("id", b"[{}]", 1, 5_000).points == 1
    assert TOKEN.encode() in asked[0]
    assert seen.startswith(b"CONNECT vtn.example:443 ")
    assert TOKEN.encode() not in seen
