"""The auth string of a Prefect server of one's own, without which it answers nobody: kept beside its database."""

import os
from contextlib import suppress
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import urlsplit

from pydantic import SecretStr

from venclient.wires.proxies import is_this_machine

OTHERS = 0o077


def auth_file(home: Path, port: int) -> Path:
    """Where the server on this port has its auth string: each has its own, so that none is given another's."""
    return home / f"auth-{port}"


def kept_auth_string(home: Path, api_url: str) -> tuple[Path, SecretStr] | None:
    """The file and the auth string of a server of one's own at this address; nothing where it is another's."""
    port = urlsplit(api_url).port
    if port is None or not is_this_machine(api_url):
        return None
    file = auth_file(home, port)
    text = _read(file)
    return (file, SecretStr(text)) if text else None


def made_auth_string(file: Path) -> str:
    """The auth string in this file, made at the first start; in place of one that others could read, another."""
    text = _read(file)
    if text:
        return text
    text = new_auth_string()
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(f"{text}\n")
    return text


def new_auth_string() -> str:
    """One that nobody guesses, as `user:password`."""
    return f"operator:{token_urlsafe(32)}"


def _read(file: Path) -> str:
    with suppress(OSError), os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW)) as stream:
        status = os.fstat(stream.fileno())
        if status.st_uid == os.geteuid() and not status.st_mode & OTHERS:
            return stream.read().strip()
    return ""
