"""Normalize HTTP addresses, so that different spellings of an address name the same VTN."""

import re
from ipaddress import IPv6Address

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

DEFAULT_PORTS = {"http": 80, "https": 443}
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def normal_form(address: str) -> str:
    """Normalize an address by RFC 3986 §6.2, without trailing slashes.

    Scheme and host are lowercased (internationalized names become A-labels), IPv6 addresses compressed, the default
    port and dot segments removed, and characters percent-encoded only where needed. Anything but an HTTP address is
    returned unchanged. No names are resolved: `localhost` and 127.0.0.1 are different addresses.
    """
    try:
        url = parse_url(_ESCAPE.sub(_decode_unreserved, address.strip()))
    except LocationParseError:
        return address
    if url.scheme not in DEFAULT_PORTS or not url.host:
        return address
    port = f":{url.port}" if url.port not in (None, DEFAULT_PORTS[url.scheme]) else ""
    user = f"{url.auth}@" if url.auth else ""
    query = f"?{url.query}" if url.query is not None else ""
    return f"{url.scheme}://{user}{_compressed(url.host)}{port}{(url.path or '').rstrip('/')}{query}"


def _decode_unreserved(escape: re.Match[str]) -> str:
    """Decode an escape of an unreserved character, else write it in upper case (RFC 3986 §6.2.2)."""
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()


def _compressed(host: str) -> str:
    """Compress an IPv6 address by RFC 5952; return any other host as it is."""
    if not host.startswith("["):
        return host
    try:
        return f"[{IPv6Address(host[1:-1]).compressed}]"
    except ValueError:
        return host
