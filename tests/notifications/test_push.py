"""Web Push: what devices are told, by a push service at the wire, and which of them are forgotten."""

import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_bytes

import http_ece  # type: ignore[import-untyped]
import orjson
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02  # type: ignore[import-untyped]

from tests.notifications.office import Office
from tests.notifications.scene import Scene
from tests.site import Person
from web import settings
from web.notifications import push

FCM = "https://fcm.googleapis.com/fcm/send/abc"


def encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


@dataclass
class Browser:
    """The keys of one browser's subscription."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    secret: bytes = field(default_factory=lambda: token_bytes(16))

    @property
    def p256dh(self) -> str:
        return encoded(self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))

    @property
    def auth(self) -> str:
        return encoded(self.secret)

    def read(self, body: bytes) -> dict[str, str]:
        """The notice in an encrypted body."""
        text = http_ece.decrypt(body, private_key=self.key, auth_secret=self.secret, version="aes128gcm")
        declared = orjson.loads(text)
        assert declared["web_push"] == 8030
        return dict(declared["notification"])


@dataclass
class PushService:
    url: str = ""
    answers: dict[str, int] = field(default_factory=dict)
    """What it answers at which path, if not 201."""
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[PushService]:
    it = PushService()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            it.received.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(it.answers.get(self.path, 201))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever).start()
    yield it
    server.shutdown()
    server.server_close()


@pytest.fixture
def pushing(office: Office, service: PushService) -> Office:
    """A sender that may call this push service."""
    chosen = replace(office.sender.settings, push_services=(service.url,))
    return replace(office, sender=replace(office.sender, settings=chosen))


def add(scene: Scene, service: PushService, path: str, user: int | None = None) -> Browser:
    browser = Browser()
    scene.postgres.execute(
        "INSERT INTO push_devices (user_id, endpoint, p256dh, auth) VALUES (%s, %s, %s, %s)",
        [user or scene.bob, service.url + path, browser.p256dh, browser.auth],
    )
    return browser


def states(scene: Scene) -> list[str]:
    return [row[0] for row in scene.postgres.execute("SELECT state FROM notifications ORDER BY id").fetchall()]


def without_telegram(office: Office) -> None:
    office.scene.change(office.scene.bob, telegram_chat_id=None)


def test_a_device_is_told_encrypted_and_signed(pushing: Office, service: PushService) -> None:
    without_telegram(pushing)
    scene = pushing.scene
    browser = add(scene, service, "/one")

    pushing.send(*scene.write("hello <b> & ✓ " + "x" * 300))

    [(path, headers, body)] = service.received
    assert path == "/one"
    notice = browser.read(body)
    assert notice["title"] == "alice"
    assert notice["body"].startswith("hello <b> & ✓ xxx")
    assert len(notice["body"]) == push.LINE
    assert notice["navigate"] == f"{pushing.sender.settings.site_url}/chat/alice"
    assert headers["topic"] == notice["tag"] == f"chat-{scene.conversation}"
    assert (headers["content-encoding"], headers["ttl"], headers["urgency"]) == ("aes128gcm", "86400", "high")
    assert Vapid02.verify(headers["authorization"])
    assert push.public_key(pushing.sender.settings) in headers["authorization"]
    assert states(scene) == ["sent"]
    assert scene.value("SELECT told_seq FROM participants WHERE user_id = %s", scene.bob) == 0  # that is Telegram's


def test_a_burst_is_one_notice_more(pushing: Office, service: PushService) -> None:
    without_telegram(pushing)
    scene = pushing.scene
    browser = add(scene, service, "/one")
    pushing.send(*scene.write("first"))

    later = scene.write("second")
    scene.write("third")
    pushing.send(*later)
    assert len(service.received) == 1  # it was told a moment ago
    scene.postgres.execute("UPDATE participants SET pushed_at = now() - interval '1 minute'")
    scene.postgres.execute("UPDATE notifications SET due_at = now() WHERE state = 'pending'")
    pushing.send(*later)

    assert [browser.read(body)["body"] for _, _, body in service.received] == ["first", "first\nsecond\nthird"]
    pushing.send(*later)
    assert len(service.received) == 2


def test_telegram_and_devices_are_told_beside_each_other(pushing: Office, service: PushService) -> None:
    scene = pushing.scene
    add(scene, service, "/one")
    add(scene, service, "/two")
    add(scene, service, "/alice", scene.alice)
    service.answers["/two"] = 500

    pushing.send(*scene.write("hello"))

    assert sorted(path for path, _, _ in service.received) == ["/one", "/two"]
    assert pushing.methods() == ["sendMessage"]
    assert states(scene) == ["sent"]


@pytest.mark.parametrize("status", push.GONE)
def test_a_device_that_its_service_refuses_is_forgotten(pushing: Office, service: PushService, status: int) -> None:
    without_telegram(pushing)
    scene = pushing.scene
    add(scene, service, "/one")
    browser = add(scene, service, "/two")
    service.answers["/one"] = status

    pushing.send(*scene.write("hello"))

    assert [row[0] for row in scene.postgres.execute("SELECT p256dh FROM push_devices").fetchall()] == [browser.p256dh]
    assert states(scene) == ["sent"]


def test_without_telegram_a_service_that_is_away_is_tried_again(pushing: Office, service: PushService) -> None:
    without_telegram(pushing)
    scene = pushing.scene
    browser = add(scene, service, "/one")
    service.answers["/one"] = 503
    ids = scene.write("hello")
    pushing.send(*ids)
    assert states(scene) == ["sending"]

    del service.answers["/one"]
    scene.postgres.execute("UPDATE notifications SET due_at = now()")
    pushing.send(*ids)

    assert browser.read(service.received[-1][2])["body"] == "hello"
    assert states(scene) == ["sent"]
    assert len(service.received) == 2


def test_nothing_is_sent_where_no_push_service_is(office: Office, service: PushService) -> None:
    """The settings may have changed since the device was added."""
    without_telegram(office)
    add(office.scene, service, "/one")
    office.send(*office.scene.write("hello"))
    assert service.received == []
    assert office.scene.postgres.execute("SELECT 1 FROM push_devices").fetchall() == []


def test_whoever_logged_in_or_reads_is_not_told(pushing: Office, service: PushService) -> None:
    without_telegram(pushing)
    scene = pushing.scene
    add(scene, service, "/one")
    ids = scene.write("hello")
    scene.change(scene.bob, token=1)
    pushing.send(*ids)
    assert states(scene) == ["cancelled"]

    scene.change(scene.bob, token=0)
    ids = scene.write("again")
    scene.postgres.execute("UPDATE participants SET read_seq = 2 WHERE user_id = %s", [scene.bob])
    pushing.send(*ids)
    assert states(scene) == ["cancelled", "cancelled"]
    assert service.received == []


def post(person: Person, **changes: str) -> int:
    browser = Browser()
    form = {"endpoint": FCM, "p256dh": browser.p256dh, "auth": browser.auth, **changes}
    return person.http.post("/settings/devices", data=form).status_code


def owners(postgres: psycopg.Connection) -> list[tuple[str, str]]:
    query = "SELECT username, endpoint FROM push_devices JOIN users ON users.id = user_id ORDER BY push_devices.id"
    return postgres.execute(query).fetchall()


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "https://example.com/x"},
        {"endpoint": "http://fcm.googleapis.com/x"},
        {"endpoint": "https://fcm.googleapis.com.example.com/x"},
        {"endpoint": "https://fcm.googleapis.com@10.0.0.1/x"},
        {"endpoint": "https://10.0.0.1#.googleapis.com"},
        {"endpoint": "https://10.0.0.1?.googleapis.com"},
        {"endpoint": "https://10.0.0.1\\.googleapis.com/x"},
        {"endpoint": "https://fcm.googleapis.com:22/x"},
        {"endpoint": "file:///etc/passwd"},
        {"endpoint": "https://[::1"},
        {"endpoint": ""},
        {"endpoint": FCM + "x" * 3000},
        {"endpoint": FCM + "\0"},
        {"p256dh": "x"},
        {"p256dh": encoded(b"\4" + b"\1" * 64)},
        {"p256dh": "ю" * 87},
        {"auth": "x"},
        {"auth": ""},
    ],
)
def test_only_a_subscription_at_a_push_service_is_taken(
    alice: Person, postgres: psycopg.Connection, changes: dict[str, str]
) -> None:
    assert post(alice, **changes) == 422
    assert owners(postgres) == []


def test_a_device_is_one_persons_and_ends_with_the_other_sessions(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    assert alice.site.client().post("/settings/devices").headers["location"].startswith("/login")
    assert post(alice) == 204
    assert owners(postgres) == [("alice", FCM)]
    assert post(bob) == 204  # who uses the same browser now
    assert owners(postgres) == [("bob", FCM)]
    alice.http.post("/settings/devices/remove", data={"endpoint": FCM})
    assert owners(postgres) == [("bob", FCM)]

    for n in range(push.DEVICES + 2):
        post(bob, endpoint=f"{FCM}{n}")
    assert [endpoint for _, endpoint in owners(postgres)] == [f"{FCM}{n}" for n in range(2, push.DEVICES + 2)]
    bob.http.post("/settings/devices/remove", data={"endpoint": f"{FCM}5"})
    assert len(owners(postgres)) == push.DEVICES - 1
    bob.http.post("/settings/sessions/end")
    assert owners(postgres) == []


def test_logging_out_keeps_the_device_which_is_then_told(
    alice: Person, bob: Person, postgres: psycopg.Connection
) -> None:
    post(bob)
    alice.post("bob", "while he is here")
    assert postgres.execute("SELECT 1 FROM notifications").fetchall() == []
    bob.log_out()
    alice.post("bob", "while he is not")
    assert len(postgres.execute("SELECT 1 FROM notifications").fetchall()) == 1


def test_the_key_is_made_of_the_secret_one(environ: dict[str, str]) -> None:
    keys = {push.public_key(settings.read({**environ, "SECRET_KEY": letter * 40})) for letter in "aab"}
    assert len(keys) == 2
