"""The site: all its routes, behind its doors."""

import gc

from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from web import assets, log, settings, site
from web.doors import Compressed, Doors
from web.proxies import Proxies
from web.settings import Settings
from web.views import account_settings as settings_views
from web.views import (
    admin,
    auth,
    chat,
    confirmation,
    devices,
    emoji,
    errors,
    frames,
    health,
    keeping,
    message,
    my_account,
    search,
    second_factor,
    telegram_settings,
    users,
)

routes = [
    Route("/", chat.index),
    Route("/register", auth.register, methods=["GET", "POST"]),
    Route("/login", auth.login, methods=["GET", "POST"]),
    Route("/login/code", auth.second_step, methods=["POST"]),
    Route("/logout", auth.log_out, methods=["POST"]),
    Route("/users", users.index),
    Route("/search", search.index),
    Route("/emoji", emoji.show),
    Route("/chat/{username}", chat.chat),
    Route("/chat/{username}/messages", chat.messages),
    Route("/chat/{username}/messages", chat.post, methods=["POST"]),
    Route("/chat/{username}/messages/{seq}", message.show),
    Route("/chat/{username}/messages/{seq}", message.edit, methods=["POST"]),
    Route("/chat/{username}/messages/{seq}/remove", message.remove, methods=["POST"]),
    Route("/chat/{username}/messages/{seq}/reactions", message.react, methods=["POST"]),
    Route("/chat/{username}/messages/{seq}/unread", message.unread, methods=["POST"]),
    WebSocketRoute("/ws", frames.Connect()),
    Route("/settings", settings_views.show),
    Route("/settings/myself", settings_views.change_myself, methods=["POST"]),
    Route("/settings/privacy", settings_views.change_privacy, methods=["POST"]),
    Route("/settings/password", settings_views.change_password, methods=["POST"]),
    Route("/settings/sessions/end", settings_views.end_other_sessions, methods=["POST"]),
    Route("/settings/confirm", confirmation.confirm, methods=["GET", "POST"]),
    Route("/settings/sessions/{id}/end", settings_views.end_session, methods=["POST"]),
    Route("/settings/invitations", settings_views.invite, methods=["POST"]),
    Route("/settings/invitations/{id}/withdraw", settings_views.withdraw, methods=["POST"]),
    *keeping.routes,
    *devices.routes,
    *second_factor.routes,
    *telegram_settings.routes,
    *my_account.routes,
    *admin.routes,
    Route("/livez", health.livez),
    Route("/readyz", health.readyz),
    Route("/metrics", health.prometheus),
    Route("/static/{path:path}", assets.serve),
]

GARBAGE = (20_000, 50, 100)
"""The thresholds of gc.set_threshold: rarely, since it takes long where thousands of sockets are open."""


def from_environment() -> ASGIApp:
    """The site of a web process."""
    chosen = settings.load()
    log.configure(chosen)
    gc.freeze()  # what is imported stays
    gc.set_threshold(*GARBAGE)
    return make_app(chosen)


def make_app(chosen: Settings) -> ASGIApp:
    """The site with these settings."""
    proxies = Proxies(chosen)
    for path in assets.FILES:
        if not path.startswith(assets.LATER):
            assets.find(path)  # which takes too long for a request
    app = Starlette(
        routes=routes, exception_handlers=errors.HANDLERS, lifespan=lambda _app: site.running(chosen, proxies)
    )
    app.router.redirect_slashes = False  # it would lead to wherever the Host header says
    return Doors(Compressed(app), chosen, proxies)
