"""The emoji picker's page, which other pages of the site show in a frame.

The picker writes style elements, which the policy of the other pages forbids; what people write is never on this page.
"""

from starlette.responses import Response

from web import assets
from web.accounts.sessions import SignedIn
from web.doors import CONTENT_SECURITY_POLICY
from web.site import Request
from web.views import pages

POLICY = CONTENT_SECURITY_POLICY.replace("frame-ancestors 'none'", "frame-ancestors 'self'")
POLICY = POLICY.replace(f"'sha256-{assets.STYLE_HASH}'", "'unsafe-inline'")


@pages.signed_in
async def show(request: Request, _: SignedIn) -> Response:
    answer = pages.render("emoji.html", theme=pages.theme(request))
    answer.headers["Content-Security-Policy"] = POLICY
    return answer
