"""Who a client is, and whether it came by https, when proxies stand between it and this site."""

import logging
import re
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import Scope

from web.settings import Settings
from web.words import Sentence

log = logging.getLogger(__name__)

REQUEST_ID = re.compile("[A-Za-z0-9-]{8,64}")
HINTS = 10
"""Kept at most: they come from what requests say."""

NOT_TRUSTED = Sentence(
    "%(peer)s sends X-Forwarded-For but is not trusted, so all its clients count as one. "
    "If that is your proxy, name it in FORWARDED_ALLOW_IPS."
)
NAMES_NOBODY = Sentence(
    "%(peer)s passes requests on without X-Forwarded-For, so all its clients count as one. "
    "Let your proxy send that header."
)
UNKNOWN_HTTPS = Sentence(
    "%(peer)s passes on what was opened by https, but Knock was not told, so cookies are not secure and forms are "
    "refused. Set SITE_URL to the https:// address."
)


class Proxies:
    """Believes the trusted ones, and notices what an operator has to mend. One per process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._site_host = settings.site_url.partition("://")[2].lower()
        self.hints: list[Sentence] = []
        """Sentences for the operator: what this process saw that is wrong with the proxies."""

    def look(self, scope: Scope, headers: Headers) -> str | None:
        """Put the client's address and scheme into the scope of a request or handshake.

        Returns the id that a trusted proxy gave the request.
        """
        address, port = scope.get("client") or ("", 0)
        peer = address_of(address) or ""
        client, is_https = peer, self._settings.is_https
        request_id = None
        if self._settings.trusts(peer):
            client = self._client(peer, ",".join(headers.getlist("x-forwarded-for")))
            # Of several proxies the first one, which people reached, comes first.
            is_https |= headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower() in ("https", "wss")
            request_id = headers.get("x-request-id")
        secure, plain = ("https", "http") if scope["type"] == "http" else ("wss", "ws")
        scope["client"] = (client, port)
        scope["scheme"] = secure if is_https else plain
        self._notice(peer, headers, is_https)
        return request_id if request_id and REQUEST_ID.fullmatch(request_id) else None

    def _client(self, peer: str, forwarded: str) -> str:
        """The nearest address that is no trusted proxy's. What is no address, or a stranger says, does not count."""
        client = peer
        for named in reversed(forwarded.split(",")):
            address = address_of(named.strip())
            if address is None or not self._settings.trusts(client):
                break
            client = address
        return client

    def _notice(self, peer: str, headers: Headers, is_https: bool) -> None:
        host = headers.get("host", "").lower()
        if "x-forwarded-for" in headers:
            if not self._settings.trusts(peer):
                self._hint(NOT_TRUSTED, peer)
        elif self._settings.is_https and host == self._site_host:
            self._hint(NAMES_NOBODY, peer)
        if not is_https and headers.get("origin", "").lower() == f"https://{host}":
            self._hint(UNKNOWN_HTTPS, peer)

    def _hint(self, said: Sentence, peer: str) -> None:
        hint = Sentence(said.message, peer=peer)
        # Anybody on the internet can make headers up, so that only what is near can be the operator's proxy.
        if hint not in self.hints and len(self.hints) < HINTS and _is_private(peer):
            self.hints.append(hint)
            log.warning("%s", hint)


def address_of(text: str) -> str | None:
    """The IP address, in its one form; a port or network card after it is left out. None if the text is no address.

    An IPv4 client of a socket that listens on IPv6 too has an address like ::ffff:192.0.2.7.
    """
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def neighbourhood_of(address: str) -> str:
    """What counts as one client: an IPv6 address's /64, which a single customer gets, or the IPv4 address."""
    return str(ip_network((address, 64), strict=False)) if ":" in address else address


def _is_private(peer: str) -> bool:
    return bool(peer) and ip_address(peer).is_private
