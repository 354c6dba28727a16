"""Leaving: everything that is mine as a file, and the deletion of my account."""

from collections.abc import AsyncIterator, Sequence

import orjson
from sqlalchemy import or_, select
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from web import log
from web.accounts import sessions, users
from web.accounts.forms import Deletion
from web.accounts.sessions import SignedIn
from web.chat import blocks
from web.data.models import Message, Participant, User
from web.data.postgres import Database
from web.site import Request, delete_user
from web.views import confirmation, pages
from web.words import Sentence

PAGE = 1000
"""Messages read at once for the file."""


@pages.signed_in
async def download(request: Request, me: SignedIn) -> Response:
    """One JSON object a line: the account, its sessions, whom it blocks, and each message of its chats."""

    async def file() -> AsyncIterator[bytes]:
        async for line in _lines(request, me):
            yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    headers = {"Content-Disposition": f'attachment; filename="knock-{me.username}.jsonl"'}
    return StreamingResponse(file(), media_type="application/jsonl", headers=headers)


async def _lines(request: Request, me: SignedIn) -> AsyncIterator[dict[str, object]]:
    """Reads a page, and hands it out once its database session has ended: a client may read as slowly as it likes."""
    for line in await _about(request.state.db, me):
        yield line
    async with request.state.db() as db:
        mine = select(Participant.conversation_id, Participant.draft).where(Participant.user_id == me.id)
        conversations = (await db.execute(mine.order_by(Participant.conversation_id))).all()
    for conversation_id, draft in conversations:
        async with request.state.db() as db:
            people = select(User.id, User.username).join(Participant, Participant.user_id == User.id)
            people = people.where(Participant.conversation_id == conversation_id)
            names = {row.id: row.username for row in await db.execute(people)}
        chat = ", ".join(name for id, name in names.items() if id != me.id)
        last = 0
        while page := await _messages(request.state.db, me.id, conversation_id, last):
            for it in page:
                yield {"chat": chat, "at": it.created_at, "from": names[it.author_id], "text": it.body}
            last = page[-1].seq
        if draft:
            yield {"chat": chat, "draft": draft}


async def _about(database: Database, me: SignedIn) -> list[dict[str, object]]:
    async with database() as db:
        user = await db.get_one(User, me.id)
        lines: list[dict[str, object]] = [
            {"account": user.username, "since": user.created_at, "telegram": user.telegram_name}
        ]
        for it in await sessions.listed(db, me):
            lines.append({"session": it.user_agent, "address": it.address, "since": it.created_at})
        for name in await blocks.listed(db, me.id):
            lines.append({"blocked": name})
    return lines


async def _messages(database: Database, me: int, conversation_id: int, after: int) -> Sequence[Message]:
    seen = or_(Message.held.is_(False), Message.author_id == me)
    query = select(Message).where(Message.conversation_id == conversation_id, Message.seq > after, seen)
    async with database() as db:
        return (await db.scalars(query.order_by(Message.seq).limit(PAGE))).all()


@pages.signed_in
async def delete(request: Request, me: SignedIn) -> Response:
    """Asks for the username and the password, and deletes the account."""
    if request.method == "GET":
        return await _page(request, me, Deletion())
    form = Deletion(await pages.form(request))
    is_valid = form.validate()
    if users.fold(form.username.data or "") != users.fold(me.username):
        form.username.errors = [Sentence("That is not your username.")]
        is_valid = False
    if not is_valid:
        return await _page(request, me, form, 422)
    if status := await confirmation.refuses(request, me, form.password):
        return await _page(request, me, form, status)
    await delete_user(request.state, me.id)
    log.event("account deleted", user=me.username)
    answer = pages.see_other("/login")
    sessions.delete_cookie(answer, request)
    return answer


async def _page(request: Request, me: SignedIn, form: Deletion, status: int = 200) -> Response:
    return await pages.show(request, me, "accounts/delete.html", status, form=form)


routes = [
    Route("/settings/account/download", download),
    Route("/settings/account/delete", delete, methods=["GET", "POST"]),
]
