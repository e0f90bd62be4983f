"""Secrets in addresses and messages, masked by ***."""

import re
from urllib.parse import unquote_plus

MASK = "***"
# Parameters of libpq and other drivers: `password`, `sslpassword`, `PWD` in `odbc_connect`, …
_SECRET = r"(?i:pass|pwd|secret|token|credential)\w*\s*=\s*"
# With their values, as in libpq connection strings (PostgreSQL 15 documentation, 34.1.1.1).
_SECRET_AND_VALUE = re.compile(rf"({_SECRET})(?:'(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])+)", re.DOTALL)


def shown(address: str) -> str:
    """Mask secrets in a path, a URL (even a malformed one) or a connection string by ***.

    A password that is not percent-encoded may contain any character, so everything up to the last @ belongs to it.
    """
    scheme, is_url, rest = address.partition("://")
    if not is_url or not re.fullmatch(r"[\w+.-]+", scheme):
        scheme, is_url, rest = "", "", _SECRET_AND_VALUE.sub(rf"\1{MASK}", address)
    user_info, at, location = rest.rpartition("@")
    user, colon, _ = user_info.partition(":")
    if at and colon and not user.startswith("/"):
        if re.search("[?#]", user_info):  # a password in the query, or ? in the password: ambiguous
            return scheme + is_url + MASK
        rest = f"{user}:{MASK}@{location}"
    if is_url and (query := re.search("[?#]", rest)):
        rest = rest[: query.end()] + re.sub("[^&]+", _mask_parameter, rest[query.end() :])
    return scheme + is_url + rest


def has_password(address: str) -> bool:
    """Whether the address contains a secret."""
    return shown(address) != address


def masked(text: str) -> str:
    """Mask secrets in a driver's message, which may repeat addresses or parameters."""
    with_masked_urls = re.sub(r"\w[\w+.-]*://\S+", lambda match: shown(match[0]), text)
    return _SECRET_AND_VALUE.sub(rf"\1{MASK}", with_masked_urls)


def _mask_parameter(match: re.Match[str]) -> str:
    name, _, value = match[0].partition("=")
    return f"{name}={MASK}" if value and re.search(_SECRET, unquote_plus(match[0])) else match[0]
