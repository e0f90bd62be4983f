"""Files that hold data: readable by their owner alone, and never written through a link that is in their place."""

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def make_private_folder(folder: Path) -> None:
    """Make the folder where it is missing; one that is there stays as it is. Raises `OSError`."""
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)


def create_private(path: Path) -> BinaryIO:
    """A new file to write to; raises `FileExistsError` where there is a file, or a link to wherever (O_EXCL)."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE), "wb")


def replace_private(path: Path, content: bytes) -> None:
    """Write the whole file beside its place, and put it there at once; a link that is there is replaced, too."""
    written, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600 and O_EXCL
    try:
        with os.fdopen(written, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
