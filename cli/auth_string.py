"""The auth string of a local Prefect server, which every client has to send; it is stored beside its database."""

import os
from contextlib import suppress
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import urlsplit

from pydantic import SecretStr

from venclient.private_files import create_private
from venclient.proxies import is_this_machine

GROUP_AND_OTHERS = 0o077


def auth_file(home: Path, port: int) -> Path:
    """Return the path of the auth string of the server on this port. No two servers share one."""
    return home / f"auth-{port}"


def kept_auth_string(home: Path, api_url: str) -> tuple[Path, SecretStr] | None:
    """Return the file and the auth string of the local server at this address; None if none is stored for it."""
    port = urlsplit(api_url).port
    if port is None or not is_this_machine(api_url):
        return None
    file = auth_file(home, port)
    text = _read(file)
    return (file, SecretStr(text)) if text else None


def made_auth_string(file: Path) -> str:
    """Return the auth string in this file, created at the first start, and replaced if other users could read it."""
    text = _read(file)
    if text:
        return text
    text = new_auth_string()
    file.unlink(missing_ok=True)
    with create_private(file) as stream:
        stream.write(f"{text}\n".encode())
    return text


def new_auth_string() -> str:
    """Return a random auth string, as `user:password`."""
    return f"operator:{token_urlsafe(32)}"


def _read(file: Path) -> str:
    """Return the auth string in this file; empty if there is none, or if it is not private to this user."""
    with suppress(OSError), os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW)) as stream:
        status = os.fstat(stream.fileno())  # of the open file: the path may lead to another one by now
        if status.st_uid == os.geteuid() and not status.st_mode & GROUP_AND_OTHERS:
            return stream.read().strip()
    return ""
