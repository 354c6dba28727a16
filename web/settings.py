"""The environment, read once, cast and checked: a bad value refuses to start and names itself."""

import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.psycopg import dialect as psycopg_dialect
from sqlalchemy.exc import ArgumentError

T = TypeVar("T")
Network = IPv4Network | IPv6Network

SECRET_KEY_BYTES = 32
PUSH_SERVICES = (
    "https://fcm.googleapis.com",
    "https://*.push.services.mozilla.com",
    "https://*.push.apple.com",
    "https://*.notify.windows.com",
)
"""Those of Chrome and its kin, Firefox, Safari, and Edge."""
ADDRESSES = "addresses.json"
"""In DATA_DIR: DATABASE_URL and REDIS_URL of the embedded servers, while they run."""

AFTER_CRASH = "KNOCK_AFTER_CRASH"
"""The supervisor sets this for a web process that replaces a crashed one."""


class BadSetting(Exception):
    """Knock cannot start with a variable of the environment; the text is for the operator."""


@dataclass(frozen=True)
class Settings:
    """What the environment says; the README explains each setting."""

    host: str
    port: int
    data_dir: Path | None
    database_url: str
    database_pooler: bool
    """Whether DATABASE_URL leads to a pooler that lends connections for a transaction, as PgBouncer does."""
    redis_url: str
    secret_keys: tuple[str, ...]
    """The first signs; the others only verify, during a rotation."""
    web_processes: int
    session_max_age: int
    """Seconds."""
    telegram_bot_token: str | None
    telegram_api_url: str
    site_url: str
    """Where people reach the site, for the links in Telegram; without a trailing slash."""
    socket_rate: float
    """Frames that one user may send per second; 0 is no limit."""
    limits: bool
    """Whether sign-ups, logins and sockets are limited; off for benchmarks and tests that come from one address."""
    sign_up: str
    """Who may register: everybody (open), who was invited (invite), nobody (closed)."""
    metrics_token: str | None
    """The bearer token of /metrics; None shows them to nobody."""
    metrics_port: int | None
    """Where the worker answers /readyz and /metrics; the bot does at the next port."""
    push_services: tuple[str, ...]
    """Origins that notices to devices may be sent to, with * for any characters: browsers name their service."""
    log_format: str
    trusted_proxies: tuple[Network, ...]
    """Whose X-Forwarded-For and X-Forwarded-Proto count."""

    def trusts(self, address: str) -> bool:
        """Whether a connection from this address comes from a trusted proxy."""
        try:
            return any(ip_address(address) in network for network in self.trusted_proxies)
        except ValueError:
            return False  # a Unix socket, which has no address

    @property
    def is_https(self) -> bool:
        """Whether SITE_URL says that people come by https."""
        return self.site_url.startswith("https://")

    @property
    def address(self) -> str:
        """Where this machine reaches the site."""
        return _address(self.host, self.port)


def read(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`. Raises BadSetting."""

    def get(name: str, default: T, cast: Callable[[str], T], demand: str) -> T:
        value = environ.get(name, "").strip()
        if not value:
            return default
        try:
            return cast(value)
        except ValueError:
            raise BadSetting(f"{name} is {value!r}, but it must be {demand}.") from None

    data_dir = _data_dir(environ)
    host = get("HOST", "127.0.0.1", str, "an address")
    port = get("PORT", 8000, _whole(1, 65535), "a port, 1 to 65535")
    return Settings(
        host=host,
        port=port,
        data_dir=data_dir,
        database_url=_demand(environ, "DATABASE_URL", _postgresql),
        database_pooler=get("DATABASE_POOLER", False, _switch, "on or off"),
        redis_url=_with_password(_demand(environ, "REDIS_URL", _redis), environ.get("REDIS_PASSWORD", "")),
        secret_keys=_secret_keys(environ, data_dir),
        web_processes=get("WEB_PROCESSES", 1, _whole(1, 64), "a whole number, 1 to 64"),
        session_max_age=get("SESSION_MAX_AGE", 86400, _whole(1, 10**9), "a number of seconds"),
        telegram_bot_token=_token(environ.get("TELEGRAM_BOT_TOKEN", "").strip()),
        telegram_api_url=get("TELEGRAM_API_URL", "https://api.telegram.org", _http, "an http(s):// address"),
        site_url=get("SITE_URL", _address(host, port), _http, "an http(s):// address"),
        socket_rate=get("SOCKET_RATE", 20.0, _rate, "a number of frames a second, 0 for no limit"),
        limits=get("LIMITS", True, _switch, "on or off"),
        sign_up=get("SIGN_UP", "open", _one_of("open", "invite", "closed"), "open, invite or closed"),
        metrics_token=environ.get("METRICS_TOKEN", "").strip() or None,
        metrics_port=get("METRICS_PORT", None, _whole(1, 65534), "a port, 1 to 65534"),
        push_services=get("PUSH_SERVICES", PUSH_SERVICES, _origins, "origins, with spaces between, or none"),
        trusted_proxies=get("FORWARDED_ALLOW_IPS", (), _networks, "addresses or networks, separated by commas"),
        log_format=get("LOG_FORMAT", "console", _one_of("console", "json"), "console or json"),
    )


def with_embedded(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with the addresses of the embedded servers that run now, for those that it does not name."""
    data_dir = _data_dir(environ)
    try:
        kept = json.loads((data_dir / ADDRESSES).read_text()) if data_dir else {}
    except OSError:
        kept = {}
    return {**environ, **{name: value for name, value in kept.items() if not environ.get(name, "").strip()}}


def load() -> Settings:
    """The settings of this process; a bad one ends it with a sentence for the operator."""
    try:
        return read(os.environ)
    except BadSetting as error:
        print(f"knock: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _data_dir(environ: Mapping[str, str]) -> Path | None:
    """DATA_DIR, by default ./data; None if it is set to nothing, as in the container image."""
    value = environ.get("DATA_DIR", "./data")
    return Path(value).resolve() if value else None


def _secret_keys(environ: Mapping[str, str], data_dir: Path | None) -> tuple[str, ...]:
    key = environ.get("SECRET_KEY", "")
    if not key and data_dir is not None:
        key = _kept_secret(data_dir / "secret-key")
    if len(key.encode()) < SECRET_KEY_BYTES:
        raise BadSetting(f"SECRET_KEY must be set, to {SECRET_KEY_BYTES} random bytes or more.")
    fallbacks = environ.get("SECRET_KEY_FALLBACKS", "").replace(",", " ").split()
    if any(len(fallback.encode()) < SECRET_KEY_BYTES for fallback in fallbacks):
        raise BadSetting(f"SECRET_KEY_FALLBACKS must be keys of {SECRET_KEY_BYTES} bytes or more, with spaces between.")
    return (key, *fallbacks)


def _kept_secret(path: Path) -> str:
    """The secret in the file, created at the first start; safe when several processes start at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            draft = path.with_name(f"{path.name}.{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(48))
            try:
                os.link(draft, path)
            except FileExistsError:
                pass  # another process was first, and its secret counts
            finally:
                draft.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise BadSetting(f"SECRET_KEY is unset and cannot be kept in DATA_DIR: {error}.") from None


def _demand(environ: Mapping[str, str], name: str, cast: Callable[[str], str]) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise BadSetting(f"{name} must be set (scripts/run starts embedded servers and sets it).")
    try:
        return cast(value)
    except ValueError as error:
        raise BadSetting(f"{name} must be {error}.") from None


def _postgresql(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in ("postgresql+psycopg", "postgresql", "postgres"):
        raise ValueError("a postgresql+psycopg:// address")
    url = f"postgresql+psycopg://{_hosts_apart(rest)}"
    try:
        psycopg_dialect().create_connect_args(make_url(url))  # type: ignore[no-untyped-call]
    except (ArgumentError, ValueError):
        raise ValueError("an address like postgresql+psycopg://user:password@host:5432/knock") from None
    return url


def _hosts_apart(rest: str) -> str:
    """`user@one:1,two:2/knock` as SQLAlchemy reads several hosts: `user@/knock?host=one:1&host=two:2`."""
    address, _, query = rest.partition("?")
    before, at, address = address.rpartition("@")
    hosts, _, name = address.partition("/")
    if "," not in hosts:
        return rest
    queries = [f"host={host}" for host in hosts.split(",")] + ([query] if query else [])
    return f"{before}{at}/{name}?{'&'.join(queries)}"


def _redis(value: str) -> str:
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("a redis://, rediss:// or unix:// address")
    return value


def _with_password(url: str, password: str) -> str:
    """`redis://user@host` with the password, which may contain any characters."""
    parts = urlsplit(url)
    if not password or not parts.username or parts.password is not None:
        return url
    user, _, host = parts.netloc.partition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


def _token(value: str) -> str | None:
    """Its value is a secret, so a bad one is not repeated."""
    if value and not re.fullmatch(r"\d+:[\w-]+", value, re.ASCII):
        raise BadSetting("TELEGRAM_BOT_TOKEN is not a token; @BotFather gives one like 123456:ABC-DEF.")
    return value or None


def _http(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    return value.rstrip("/")


def _origins(value: str) -> tuple[str, ...]:
    origins = () if value == "none" else tuple(value.split())
    if any(not re.fullmatch(r"https?://[\w.*:-]+", origin) for origin in origins):
        raise ValueError
    return origins


def _networks(value: str) -> tuple[Network, ...]:
    return tuple(ip_network(part.strip()) for part in value.split(","))


def _address(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _rate(value: str) -> float:
    rate = float(value)
    if not 0 <= rate < 1e6:
        raise ValueError
    return rate


def _whole(least: int, most: int) -> Callable[[str], int]:
    def cast(value: str) -> int:
        number = int(value)
        if not least <= number <= most:
            raise ValueError
        return number

    return cast


def _switch(value: str) -> bool:
    return {"on": True, "off": False}[_one_of("on", "off")(value.lower())]


def _one_of(*choices: str) -> Callable[[str], str]:
    def cast(value: str) -> str:
        if value not in choices:
            raise ValueError
        return value

    return cast
