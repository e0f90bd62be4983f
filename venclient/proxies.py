"""The environment's proxies, for a VTN and token server on other machines and never for this machine.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in upper or lower case.
"""

import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it

from urllib3.util import parse_url

HIDDEN_PREFIX = "VENCLIENT_"
VARIABLES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
THIS_MACHINE = "localhost,127.0.0.1,::1"


def is_this_machine(address: str) -> bool:
    """Whether an address is certainly local, without a DNS lookup."""
    # Parsed as urllib3 does, which makes the connection: another parser might see another host.
    host = (parse_url(address).host or "").strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def proxies_for(address: str) -> dict[str, str]:
    """The proxies for an address by scheme, as `requests` expects them; includes those hidden by `set_aside`."""
    proxies = {name.removeprefix(HIDDEN_PREFIX.lower()): proxy for name, proxy in getproxies().items()}
    no_proxy = proxies.pop("no", "")
    return {} if is_this_machine(address) or _is_exempt(address, no_proxy) else proxies


def set_aside(environment: MutableMapping[str, str]) -> None:
    """Hide the proxies from all but `proxies_for`, for a process whose Prefect server is on this machine.

    Prefect's httpx clients read them whatever they connect to. httpx 0.28 ignores networks in NO_PROXY, and raises for
    a SOCKS proxy without `socksio` and for `[::1]` or `::1/128` in NO_PROXY.
    """
    for name in [name for name in environment if name.upper() in VARIABLES]:
        environment[HIDDEN_PREFIX + name] = environment.pop(name)


def put_back(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with hidden proxies restored, for a process that sends notifications to other machines.

    This machine is added to NO_PROXY.
    """
    restored = {name.removeprefix(HIDDEN_PREFIX): text for name, text in environment.items()}
    no_proxy = restored.get("no_proxy") or restored.get("NO_PROXY", "")
    # An asterisk exempts all hosts, but only if it stands alone.
    if no_proxy != "*":
        no_proxy = ",".join(filter(None, (no_proxy, THIS_MACHINE)))
    return restored | {"no_proxy": no_proxy, "NO_PROXY": no_proxy}


def _is_exempt(address: str, no_proxy: str) -> bool:
    """Whether NO_PROXY contains this host by name, or a network of its address, which `urllib` does not support."""
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
