"""The operator's command line: `python -m web.admin --help`.

It runs beside the site, with the same environment: what it changes reaches the open pages of every web process.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Concatenate, ParamSpec

import click
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from web import settings, site
from web.accounts import administration, deletion, invitations, names, users
from web.data import postgres, store
from web.data.models import Conversation, Message, Notification, Session, User
from web.server.rights import TOP
from web.settings import BadSetting, Settings
from web.site import Site

P = ParamSpec("P")

WORDS = 4
"""Random parts of a password that this command makes."""


class Failed(click.ClickException):
    """Ends the command with a sentence and exit code 1."""


def on_site(work: Callable[Concatenate[Site, P], Awaitable[None]]) -> Callable[P, None]:
    """A command that has the parts of a web process."""

    @wraps(work)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        async def run() -> None:
            async with site.running(_settings()) as parts:
                await work(Site(dict(parts)), *args, **kwargs)

        logging.basicConfig(level=logging.ERROR)
        asyncio.run(run())

    return command


@click.group()
def cli() -> None:
    """Manage the people of this site, and look after it."""


@cli.group("users")
def of_users() -> None:
    """List, make, ban and delete accounts."""


@cli.group("sessions")
def of_sessions() -> None:
    """End logins."""


@of_users.command("list")
@click.argument("part", default="")
@on_site
async def list_users(it: Site, part: str) -> None:
    """List the users whose name contains PART."""
    query = select(User.username, User.is_admin, User.banned_at, User.token, User.created_at).order_by(User.id)
    query = query.where(User.deleted_at.is_(None), func.strpos(users.folded_name(), users.fold(part)) > 0)
    async with it.db() as db:
        for user in await db.execute(query):
            marks = [word for word, holds in (("administrator", user.is_admin), ("banned", user.banned_at)) if holds]
            click.echo("\t".join([user.username, f"token {user.token}", f"since {user.created_at:%Y-%m-%d}", *marks]))


@of_users.command()
@click.argument("username")
@click.option("--admin", is_flag=True, help="Make them an administrator.")
@on_site
async def create(it: Site, username: str, *, admin: bool) -> None:
    """Make an account, and print its password."""
    if problem := names.problem(username):
        raise Failed(str(problem))
    password = _new_password()
    password_hash = await users.hash_password(password)
    try:
        async with it.db.begin() as db:
            user = await users.register(db, username, password_hash)
            user.is_admin = admin
    except users.UsernameTaken:
        raise Failed("Somebody has this name already.") from None
    except users.UsernameLooksTaken:
        raise Failed("This name looks like somebody else's.") from None
    click.echo(f"{username} can log in with the password: {password}")


@of_users.command("reset-password")
@click.argument("username")
@on_site
async def reset_password(it: Site, username: str) -> None:
    """Give a user a new password, print it, and end their sessions."""
    password = _new_password()
    password_hash = await users.hash_password(password)
    async with _user(it, username) as (db, user):
        user.password_hash = password_hash
        await it.endings.end_all(db, user.id)
    click.echo(f"{user.username} can log in with the password: {password}")


def _add(group: click.Group, name: str, action: administration.Action, said: str, help: str) -> None:
    """Add a command that does something to one user, and says it."""

    @group.command(name, help=help)
    @click.argument("username")
    @on_site
    async def command(it: Site, username: str) -> None:
        async with _user(it, username) as (db, user):
            await action(db, it.endings, user)
        click.echo(f"{user.username} {said}.")


# fmt: off
_add(of_users, "second-factor-off", administration.turn_off_second_factor, "can log in with the password alone",
     "Let a user who lost phone and recovery codes log in with the password alone.")
_add(of_users, "ban", administration.ban, "can log in no more",
     "Let a user log in no more, and end their sessions. Their messages stay.")
_add(of_users, "unban", administration.unban, "can log in again", "Let a banned user log in again.")
_add(of_users, "promote", administration.promote, "is an administrator", "Make a user an administrator.")
_add(of_users, "demote", administration.demote, "is no administrator", "Make an administrator a user like others.")
_add(of_sessions, "end", administration.end_sessions, "is logged in nowhere now", "End all sessions of a user.")
# fmt: on


@of_users.command()
@click.argument("username")
@click.confirmation_option(prompt="Their messages stay, under another name; the rest is gone for good. Go on?")
@on_site
async def delete(it: Site, username: str) -> None:
    """Delete an account."""
    async with _user(it, username) as (_, user):
        pass
    await site.delete_user(it, user.id)
    click.echo(f"The account is deleted; its messages are by {deletion.name(user.id)} now.")


@cli.command()
@click.argument("username")
@click.option("--note", default="", help="For whom it is.")
@on_site
async def invite(it: Site, username: str, note: str) -> None:
    """Make an invitation in the name of USERNAME, and print its link."""
    async with _user(it, username) as (db, user):
        code = await invitations.make(db, user.id, note)
    if code is None:
        raise Failed(f"{user.username} has {invitations.OPEN} open invitations. Withdraw one first.")
    click.echo(f"{it.settings.site_url}/register?invitation={code}")


@cli.command()
@on_site
async def stats(it: Site) -> None:
    """Print what there is: users, messages, what waits for Telegram."""
    async with it.db() as db:
        for table in (User, Session, Conversation, Message):
            click.echo(f"{table.__tablename__}\t{await db.scalar(select(func.count()).select_from(table))}")
        states = select(Notification.state, func.count()).group_by(Notification.state).order_by(Notification.state)
        for state, count in await db.execute(states):
            click.echo(f"notifications {state}\t{count}")


@cli.command()
def doctor() -> None:
    """Check every part, and say how to mend what is amiss."""
    problems = asyncio.run(_problems(_settings()))
    for problem in problems:
        click.echo(f"- {problem}")
    if problems:
        raise Failed(f"{len(problems)} of these need you.")
    click.echo("Everything answers.")


async def _problems(chosen: Settings) -> list[str]:
    found = []
    try:
        async with postgres.connect(chosen) as engine, engine.connect() as connection:
            at = await connection.scalar(text("SELECT version_num FROM alembic_version"))
            newest = ScriptDirectory.from_config(Config(TOP / "alembic.ini")).get_current_head()
            if at != newest:
                found.append(f"The tables are at migration {at}, the code at {newest}: run `alembic upgrade head`.")
    except Exception as error:
        found.append(f"PostgreSQL does not answer at DATABASE_URL: {str(error).splitlines()[0]}")
    if not await _redis_answers(chosen):
        found.append("Redis does not answer at REDIS_URL. The site works without it, but slowly and without knocks.")
    if chosen.telegram_bot_token is None:
        click.echo("TELEGRAM_BOT_TOKEN is not set, so nobody is told on Telegram.")
    if chosen.is_https and not chosen.trusted_proxies:
        found.append("SITE_URL is https, but no proxy is trusted, so everybody has its address: FORWARDED_ALLOW_IPS.")
    if not chosen.limits:
        found.append("LIMITS is off: nothing slows down who guesses passwords.")
    return found


async def _redis_answers(chosen: Settings) -> bool:
    async with store.connect(chosen.redis_url) as redis:
        return bool(await redis.attempt(redis.client.ping()))


@asynccontextmanager
async def _user(it: Site, username: str) -> AsyncIterator[tuple[AsyncSession, User]]:
    """A user in a transaction, which the end commits."""
    async with it.db.begin() as db:
        user = await users.find(db, username)
        if user is None:
            raise Failed(f"Nobody here is called {username}.")
        yield db, user


def _settings() -> Settings:
    try:
        return settings.read(settings.with_embedded(os.environ))
    except BadSetting as error:
        raise Failed(str(error)) from None


def _new_password() -> str:
    return "-".join(secrets.token_hex(2) for _ in range(WORDS))


if __name__ == "__main__":
    cli()
