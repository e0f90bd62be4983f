"""Named profiles, for several VTNs: each is a file `.env.NAME`, which is read in place of `.env`."""

import os
import re
from pathlib import Path

from venclient.errors import ConfigurationError

PROFILE = "BULK_UPLOAD_PROFILE"
NAME = re.compile(r"[A-Za-z0-9_-]+")
PREFIX = ".env."
EXAMPLE = "example"


def select_profile(name: str) -> None:
    """Read this profile of the current folder from now on, in this process and those that it starts."""
    os.environ[PROFILE] = str(profile_file(name).absolute())


def settings_file() -> Path:
    """Return the file of the profile that is selected, or `.env`; raises `ConfigurationError` for an unknown profile.

    `BULK_UPLOAD_PROFILE` has its name or, for processes that run in another folder, its path.
    """
    selected = os.environ.get(PROFILE)
    if not selected:
        return Path(".env")
    file = Path(selected) if "/" in selected else profile_file(selected)
    if not _is_file(file):
        name, folder = file.name.removeprefix(PREFIX), file.absolute().parent
        names = sorted(each.name.removeprefix(PREFIX) for each in folder.glob(f"{PREFIX}*"))
        others = ", ".join(other for other in names if other != EXAMPLE)
        raise ConfigurationError(
            f"There is no profile '{name}' in {folder}: "
            f"{f'it has {others}' if others else 'it has none'}. `bulk-upload init --profile {name}` makes one"
        )
    return file.relative_to(Path.cwd()) if file.parent == Path.cwd() else file


def require_utf8(file: Path) -> None:
    """Raise `ConfigurationError` if the file is there and cannot be read, or is not UTF-8."""
    if not _is_file(file):
        return
    try:
        file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file.absolute()} is not UTF-8: {error.reason}. Save it as that") from error
    except OSError as error:
        raise _cannot_be_read(file, error) from error


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError as error:  # in a folder of another user
        raise _cannot_be_read(file, error) from error


def _cannot_be_read(file: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{file.absolute()} cannot be read: {error.strerror}. Make it readable for the user who runs this (chown)"
    )


def profile_file(name: str, folder: Path = Path()) -> Path:
    """Return the file of a profile in a folder; raises `ConfigurationError` for a name that cannot be one."""
    if not NAME.fullmatch(name) or name == EXAMPLE:
        raise ConfigurationError(f"A profile cannot be called {name!r}: use letters, digits, - and _, such as test-vtn")
    return folder / f"{PREFIX}{name}"
