"""The proxy between a site and its store, as hospitals have them: HTTPS goes through it by CONNECT.

Inside TLS a proxy sees no request, so it can neither keep an answer nor lose the condition of a write. Plain
HTTP would be open to both: it never goes through a proxy.
"""

import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3

from segviz_exchange.process.errors import Refusal

PROXY = "SEGVIZ_STORE_PROXY"
"""http(s)://HOST:PORT of the proxy to every store that speaks TLS; else HTTPS_PROXY and NO_PROXY say it."""
PROXY_SECRET = "SEGVIZ_STORE_PROXY_SECRET"
"""A folder, such as a mounted Secret, with the proxy's `username` and `password`, and with its `ca.crt`."""
USER_FILE, PASSWORD_FILE, CA_FILE = "username", "password", "ca.crt"


@dataclass(frozen=True)
class Proxy:
    url: str
    """Without user and password, so that it may be shown."""
    login: str | None = field(default=None, repr=False)
    """user:password"""
    ca_pem: str | None = field(default=None, repr=False)
    """Authorities of a proxy that opens TLS, or that speaks TLS itself."""

    def headers(self) -> dict[str, str]:
        return {} if self.login is None else dict(urllib3.make_headers(proxy_basic_auth=self.login))

    def own_trust(self) -> ssl.SSLContext:
        """For TLS to the proxy itself."""
        context = ssl.create_default_context()
        if self.ca_pem is not None:
            context.load_verify_locations(cadata=self.ca_pem)
        return context


def proxy_to(address: str, named: str | None = None) -> Proxy | None:
    """The way to `address` (http(s)://HOST[:PORT]), or None where it is reached directly.

    Args:
        named: the proxy's URL; else it is taken from the environment.

    Raises:
        Refusal: what says it cannot be read.
    """
    target = urlsplit(address)
    if target.scheme != "https":
        return None
    source, url = PROXY, named or os.environ.get(PROXY)
    if not url:
        source, url = "HTTPS_PROXY", getproxies_environment().get("https")
        if not url or _is_left_out(target.hostname or ""):
            return None
    parts = _parse(url, source)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return Proxy(place, _login(parts), _authorities())


def _parse(url: str, source: str) -> SplitResult:
    """A proxy is often written without a scheme."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        if parts.scheme in ("http", "https") and parts.hostname and parts.port:
            return parts
    except ValueError:
        pass  # of a port that is no number
    # It may hold a password: it is not quoted.
    raise Refusal(
        f"The proxy for the store ({source}) is not http://HOST:PORT or https://HOST:PORT. Correct it."
    )


def _login(parts: SplitResult) -> str | None:
    user, password = _text(USER_FILE), _text(PASSWORD_FILE)
    if user is not None and password is not None:
        return f"{user}:{password}"
    if user is not None or password is not None:
        there, missing = (USER_FILE, PASSWORD_FILE) if password is None else (PASSWORD_FILE, USER_FILE)
        raise Refusal(
            f"{os.environ[PROXY_SECRET]} ({PROXY_SECRET}) holds the proxy's {there} without its {missing}. "
            "Give both, or none."
        )
    if parts.username is None:
        return None
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def _authorities() -> str | None:
    pem = _text(CA_FILE)
    try:
        if pem is not None:
            ssl.create_default_context(cadata=pem)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        name = Path(os.environ[PROXY_SECRET], CA_FILE)
        raise Refusal(f"{name} ({PROXY_SECRET}): cannot be read as PEM certificates: {error}.") from error
    return pem


def _text(name: str) -> str | None:
    """Of the Secret, without the line break that an editor leaves at the end."""
    folder = os.environ.get(PROXY_SECRET)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise Refusal(f"{PROXY_SECRET} names {folder}, which is no folder. Correct it.")
    path = Path(folder, name)
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path} ({PROXY_SECRET}): cannot be read: {error}.") from error


def _is_left_out(host: str) -> bool:
    """By NO_PROXY: names and their ends, as everywhere, and ranges of addresses, as clusters write them."""
    if proxy_bypass(host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in getproxies_environment().get("no", "").split(","):
        try:
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False
