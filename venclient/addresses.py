"""One normal form of an HTTP address, so that a VTN is one VTN in whichever spelling it is given."""

import re
from ipaddress import IPv6Address

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

DEFAULT_PORTS = {"http": 80, "https": 443}
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def normal_form(address: str) -> str:
    """The address as RFC 3986 §6.2 normalizes it, without a slash at its end.

    Scheme and host are in lower case (a name of other letters as its A-label), an IPv6 address is in its short form,
    the scheme's default port and dot segments are left out, and only what needs an escape has one. What is no HTTP
    address comes back as it is. No name is looked up: `localhost` and 127.0.0.1 are two addresses.
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
    return f"{url.scheme}://{user}{_short(url.host)}{port}{(url.path or '').rstrip('/')}{query}"


def _decode_unreserved(escape: re.Match[str]) -> str:
    """An escape, or the character where it needs none (RFC 3986 §6.2.2.2)."""
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()


def _short(host: str) -> str:
    """An IPv6 address as RFC 5952 writes it; any other host as it is."""
    if not host.startswith("["):
        return host
    try:
        return f"[{IPv6Address(host[1:-1]).compressed}]"
    except ValueError:
        return host
