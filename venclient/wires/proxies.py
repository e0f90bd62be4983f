"""The proxies of the environment: for the VTN and the token server on other machines, and never for this machine.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in capitals or not.
"""

import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it

from urllib3.util import parse_url

ASIDE = "VENCLIENT_"
VARIABLES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
THIS_MACHINE = "localhost,127.0.0.1,::1"


def is_this_machine(address: str) -> bool:
    """Whether it is certain without asking anybody; by the parser that urllib3 connects by."""
    host = (parse_url(address).host or "").strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def proxies_for(address: str) -> dict[str, str]:
    """The proxies for an address, by scheme, as `requests` takes them; also those that were set aside."""
    found = {name.removeprefix(ASIDE.lower()): proxy for name, proxy in getproxies().items()}
    no_proxy = found.pop("no", "")
    return {} if is_this_machine(address) or _is_excepted(address, no_proxy) else found


def set_aside(environment: MutableMapping[str, str]) -> None:
    """Hide the proxies from everybody but `proxies_for`, for a process whose Prefect server is on this machine.

    Prefect's clients read them when they are made, wherever they go to: httpx 0.28 knows no network in NO_PROXY, and
    raises for a SOCKS proxy without `socksio`, and for `[::1]` or `::1/128` in NO_PROXY.
    """
    for name in [name for name in environment if name.upper() in VARIABLES]:
        environment[ASIDE + name] = environment.pop(name)


def put_back(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with what was set aside, for a process that sends messages to other machines."""
    found = {name.removeprefix(ASIDE): text for name, text in environment.items()}
    no_proxy = found.get("no_proxy") or found.get("NO_PROXY", "")
    if no_proxy != "*":
        no_proxy = ",".join(filter(None, (no_proxy, THIS_MACHINE)))
    return found | {"no_proxy": no_proxy, "NO_PROXY": no_proxy}


def _is_excepted(address: str, no_proxy: str) -> bool:
    """Whether NO_PROXY has this host: by name, or by a network that it is in, which Python's own rule does not know."""
    parts = urlsplit(address)
    if proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": no_proxy}):
        return True
    try:
        host = ip_address(parts.hostname or "")
    except ValueError:
        return False
    return any(host in network for network in _networks(no_proxy))


def _networks(no_proxy: str) -> Iterator[IPv4Network | IPv6Network]:
    for entry in re.sub(r"[\[\]\s]", "", no_proxy).split(","):
        with suppress(ValueError):
            yield ip_network(entry, strict=False)
