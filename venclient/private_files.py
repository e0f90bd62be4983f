"""Create files that only their owner can read, and never write through a symbolic link."""

import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def make_private_folder(folder: Path) -> None:
    """Create the folder and its parents; an existing folder is left as it is. Raises `OSError`."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def numbered(stem: str) -> Iterator[str]:
    """Yield names to try until one is free: `stem`, `stem-2`, `stem-3`, …"""
    yield stem
    for number in count(2):
        yield f"{stem}-{number}"


def create_private(path: Path) -> BinaryIO:
    """Create a file and open it for writing; raises `FileExistsError` for an existing file or link (O_EXCL)."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb")


def write_private(path: Path, content: bytes) -> None:
    """Create a file with this content, or none if it cannot be written; raises as `create_private`, and `OSError`."""
    with create_private(path) as file:
        try:
            file.write(content)
            file.flush()
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def replace_private(path: Path, content: bytes) -> None:
    """Write a file atomically, by renaming a temporary one; replaces a link instead of following it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600 and O_EXCL
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
