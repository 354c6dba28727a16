"""The tables. `docs/architecture.md` explains the words; the rules are in the modules that keep them."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    Computed,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, column_property, mapped_column

from web.data.postgres import Base

Moment = DateTime(timezone=True)

LOOKALIKE = (
    "trim(both '-' from regexp_replace(replace(replace(translate(lower(username), '01i_.', 'oll--'),"
    " 'rn', 'm'), 'vv', 'w'), '-+', '-', 'g'))"
)
"""SQL: the same for two usernames that look alike. `web.accounts.names.lookalike` is the same in Python."""


class User(Base):
    """An account. `token` is the online token: 0 at first, 1 from login on, 0 again after a click on Log out."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("token IN (0, 1)", name="token"),
        # One index finds a name ignoring case, finds names by their beginning, and gives the order of All users.
        Index("uq_users_username", text('lower(username) COLLATE "C"'), unique=True),
        Index("ix_users_lookalike", "lookalike"),
        Index("ix_users_search", "search", postgresql_using="gin"),
        Index("ix_users_display_search", "display_search", postgresql_using="gin"),
        Index("ix_users_telegram_chat_id", "telegram_chat_id", postgresql_where=text("telegram_chat_id IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    username: Mapped[str] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    token: Mapped[int] = mapped_column(server_default=text("0"))
    telegram_chat_id: Mapped[int | None] = mapped_column(BigInteger)
    telegram_name: Mapped[str | None] = mapped_column(Text)
    """How the linked Telegram account calls itself, for the settings page."""
    telegram_problem: Mapped[str | None] = mapped_column(Text)
    """Why Telegram was unlinked without the user's doing, in words; None once linked again."""
    telegram_not_before: Mapped[datetime | None] = mapped_column(Moment)
    """Telegram asked for silence towards this chat until then."""
    telegram_username: Mapped[str | None] = mapped_column(Text)
    """The linked account's @name, without the @. Unlike `telegram_name` nobody else can have it."""
    notify_when_away: Mapped[bool] = mapped_column(server_default=text("false"))
    totp_secret: Mapped[str | None] = mapped_column(Text)
    """Of the second factor, in base32; None without one."""
    totp_step: Mapped[int | None] = mapped_column(BigInteger)
    """The 30 seconds whose code was used last: no code is good twice."""
    display_name: Mapped[str | None] = mapped_column(Text)
    """What the others see instead of the username."""
    hue: Mapped[int | None] = mapped_column(SmallInteger)
    """The avatar's colour, from 0 to 7; None for the username's own."""
    language: Mapped[str | None] = mapped_column(Text)
    """The one chosen in the settings; None for the browser's."""
    browser_language: Mapped[str | None] = mapped_column(Text)
    """At the last login."""
    telegram_language: Mapped[str | None] = column_property(func.coalesce(language, browser_language))
    shown: Mapped[str] = column_property(func.coalesce(display_name, username))
    """The name that the others see."""
    hides_reading: Mapped[bool] = mapped_column(server_default=text("false"))
    """Nobody sees how far they read, and they see nobody's."""
    hides_presence: Mapped[bool] = mapped_column(server_default=text("false"))
    """Nobody sees when they are here, and they see nobody's."""
    seen_at: Mapped[datetime | None] = mapped_column(Moment)
    """When they last had a live tab, to a few minutes."""
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    banned_at: Mapped[datetime | None] = mapped_column(Moment)
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)
    """When the user deleted the account. The row stays, under another name, for the messages."""
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())
    lookalike: Mapped[str] = mapped_column(Text, Computed(LOOKALIKE, persisted=True), deferred=True)
    search: Mapped[str] = mapped_column(TSVECTOR, Computed("username_search(username)", persisted=True), deferred=True)
    """Every ending of the name, so that an indexed prefix match finds any part of it."""
    display_search: Mapped[str] = mapped_column(
        TSVECTOR, Computed("username_search(coalesce(display_name, ''))", persisted=True), deferred=True
    )


class FormerName(Base):
    """A deleted user's name, which nobody may take after them: the SHA-256 of its lookalike."""

    __tablename__ = "former_names"

    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)


class Session(Base):
    """A signed-in browser. Its id is the SHA-256 of the secret in the cookie."""

    __tablename__ = "sessions"

    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    user_agent: Mapped[str] = mapped_column(Text, server_default="")
    address: Mapped[str] = mapped_column(Text, server_default="")
    """The client's address at the login."""
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())
    """When it was last used, to a few minutes."""
    confirmed_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())
    """When its user last typed the password."""
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)


class RecoveryCode(Base):
    """A second factor on paper, found by the code's SHA-256; using it deletes the row."""

    __tablename__ = "recovery_codes"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)


class Invitation(Base):
    """A link to register with, found by the SHA-256 of its code. It is good once."""

    __tablename__ = "invitations"

    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    made_by_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    note: Mapped[str] = mapped_column(Text, server_default="")
    """For whom it is, in the words of who made it."""
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(Moment)
    used_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))


class Block(Base):
    """`user_id` wants nothing from `blocked_id`, who is not told."""

    __tablename__ = "blocks"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    blocked_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())


class Conversation(Base):
    """Participants and their messages; `version` rises by one with every change, `last_seq` with every message.

    The two user ids keep a conversation of two unique. Who takes part is in `participants`, and nowhere else.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        UniqueConstraint("low_user_id", "high_user_id"),
        CheckConstraint("low_user_id < high_user_id", name="pair"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    low_user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    high_user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class Participant(Base):
    """A user in a conversation: how far they have read, and the place of the chat in their list."""

    __tablename__ = "participants"
    __table_args__ = (
        Index(
            "ix_participants_chats",
            "user_id",
            "active_at",
            "conversation_id",
            postgresql_where=text("active_at IS NOT NULL"),
        ),
        Index("ix_participants_pinned", "user_id", postgresql_where=text("pinned_at IS NOT NULL")),
        Index("ix_participants_starred", "user_id", postgresql_where=text("starred IS NOT NULL")),
    )

    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    read_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    delivered_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """The newest message that a tab of theirs has got."""
    told_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """The newest message that they were told of on Telegram."""
    told_at: Mapped[datetime | None] = mapped_column(Moment)
    pushed_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """The newest message that the user's devices were told of, at `pushed_at`."""
    pushed_at: Mapped[datetime | None] = mapped_column(Moment)
    fallen: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """By how much the numbers have fallen that otherwise only rise: see `Entry.edition` in chat/lists.py."""
    active_at: Mapped[datetime | None] = mapped_column(Moment)
    """When the newest message came; None if there is none yet."""
    shown_seq: Mapped[int | None] = mapped_column(BigInteger)
    """The last message that the user may see, if those after it are held; None if it is the conversation's last one."""
    pinned_at: Mapped[datetime | None] = mapped_column(Moment)
    """When they pinned the chat: it is above those that are not."""
    muted_until: Mapped[datetime | None] = mapped_column(Moment)
    """Until then nobody and nothing tells them of new messages; the year 9999 stands for always."""
    starred: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    """The seqs of the messages that they starred, as they did it; None if there are none."""
    draft: Mapped[str] = mapped_column(Text, server_default="")
    """What they have typed and not sent."""
    draft_edition: Mapped[int] = mapped_column(server_default=text("0"))
    """Rises with every change of the draft."""


class Message(Base):
    """`seq` is its place in the conversation, 1, 2, 3 …; `version` is that of its last change."""

    __tablename__ = "messages"
    __table_args__ = (
        # Keyed by the conversation first, so that a distributed PostgreSQL can place the table by it.
        UniqueConstraint("conversation_id", "author_id", "nonce"),
        Index("ix_messages_version", "conversation_id", "version"),
        Index(
            "ix_messages_reply_to",
            "conversation_id",
            "reply_to",
            "seq",
            postgresql_where=text("reply_to IS NOT NULL"),
        ),
        Index(
            "ix_messages_search",
            text("message_search(body, readers)"),
            postgresql_using="gin",
            postgresql_where=text("readers IS NOT NULL AND removed_at IS NULL"),
            postgresql_with={"gin_pending_list_limit": 512},
        ),
        Index("ix_messages_unindexed", "conversation_id", "seq", postgresql_where=text("readers IS NULL")),
    )

    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    nonce: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    """Empty once the message was removed."""
    created_at: Mapped[datetime] = mapped_column(Moment)
    edited_at: Mapped[datetime | None] = mapped_column(Moment)
    removed_at: Mapped[datetime | None] = mapped_column(Moment)
    held: Mapped[bool] = mapped_column(server_default=text("false"))
    """Sent by somebody whom the recipient blocked: only its author ever sees it."""
    reply_to: Mapped[int | None] = mapped_column(BigInteger)
    """The `seq` of the message that it answers, in the same conversation."""
    readers: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """Who may find it, as the index has them ("user 7"); None if it is not in the index yet."""
    reactions: Mapped[list[tuple[str, int]] | None] = mapped_column(JSONB(none_as_null=True))
    """Pairs of an emoji and a user's id, in the order in which they came; None if there are none."""


class EarlierText(Base):
    """What a message said before an edit; `version` is the last one of the message that said so."""

    __tablename__ = "earlier_texts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["conversation_id", "seq"], ["messages.conversation_id", "messages.seq"], name="fk_earlier_texts_message"
        ),
    )

    conversation_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    body: Mapped[str] = mapped_column(Text)
    written_at: Mapped[datetime] = mapped_column(Moment)


class NotificationState(StrEnum):
    """What became of a notification. It is due at `due_at` while it is pending or sending."""

    PENDING = "pending"
    """Nobody has tried to send it yet."""
    SENDING = "sending"
    """Claimed until `due_at`, in case its worker dies, or to be tried again then."""
    SENT = "sent"
    CANCELLED = "cancelled"
    """No longer wanted."""
    FAILED = "failed"


OPEN_STATES = (NotificationState.PENDING, NotificationState.SENDING)


def _state_in(states: Iterable[NotificationState]) -> str:
    return "state IN ({})".format(", ".join(f"'{state}'" for state in states))


class Notification(Base):
    """One row of the outbox: notify this user, on Telegram, of this conversation, and what became of it."""

    __tablename__ = "notifications"
    __table_args__ = (
        CheckConstraint(_state_in(NotificationState), name="state"),
        # A burst is one row: while it is pending, the messages that follow need no row of their own.
        Index(
            "uq_notifications_pending",
            "user_id",
            "conversation_id",
            unique=True,
            postgresql_where=text(f"state = '{NotificationState.PENDING}'"),
        ),
        Index("ix_notifications_due", "due_at", postgresql_where=text(_state_in(OPEN_STATES))),
        # One card at a time: while a row is being sent, the next one of its conversation waits.
        Index(
            "uq_notifications_sending",
            "user_id",
            "conversation_id",
            unique=True,
            postgresql_where=text(f"state = '{NotificationState.SENDING}'"),
        ),
        Index(
            "ix_notifications_card",
            "user_id",
            "conversation_id",
            "id",
            postgresql_where=text("card_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id"))
    state: Mapped[str] = mapped_column(Text, server_default=NotificationState.PENDING)
    first_seq: Mapped[int] = mapped_column(BigInteger)
    """The first message that it is about."""
    last_seq: Mapped[int | None] = mapped_column(BigInteger)
    """The last message on the card that was sent; None before that."""
    card_id: Mapped[int | None] = mapped_column(BigInteger)
    """Telegram's id of the message that shows it; None once that was deleted."""
    card_at: Mapped[datetime | None] = mapped_column(Moment)
    """When that card rang; an edit does not ring."""
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    problem: Mapped[str | None] = mapped_column(Text)
    """Why it waits, was cancelled or failed, in words for the operator."""
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())
    due_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())
    sent_at: Mapped[datetime | None] = mapped_column("told_at", Moment)


class StaleCard(Base):
    """A card of this notification shows a message that has changed since. The row goes once the card is right."""

    __tablename__ = "stale_cards"

    notification_id: Mapped[int] = mapped_column(
        ForeignKey("notifications.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    due_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())


class PushDevice(Base):
    """A browser that gets notices by Web Push: where to send them, and its keys to encrypt them with (RFC 8291)."""

    __tablename__ = "push_devices"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    endpoint: Mapped[str] = mapped_column(Text, unique=True)
    p256dh: Mapped[str] = mapped_column(Text)
    auth: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())


class TelegramCode(Base):
    """A link code of the settings page, found by the code's SHA-256; using it deletes the row."""

    __tablename__ = "telegram_codes"

    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    session_id: Mapped[bytes | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    """The session that was shown the code, which ends with it. None: the release before made it."""
    expires_at: Mapped[datetime] = mapped_column(Moment)


class TelegramRequest(Base):
    """A Telegram account that sent `/start`: first the bot waits for a username, then for that user's consent.

    `user_id` is None until a username was typed, and if nobody has that name.
    """

    __tablename__ = "telegram_requests"

    chat_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    telegram_name: Mapped[str] = mapped_column(Text)
    telegram_username: Mapped[str | None] = mapped_column(Text)
    number: Mapped[int] = mapped_column(server_default=text("0"))
    """Shown by the bot and by the site, for the user to compare."""
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    asked: Mapped[bool] = mapped_column(server_default=text("true"))
    """Whether the bot waits for this chat to type a username."""
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())

    @classmethod
    def holds(cls) -> ColumnElement[bool]:
        """The condition that a request is not over: it ends after a day."""
        return cls.created_at > func.now() - timedelta(days=1)


class TelegramRefusal(Base):
    """A user said "not me" to a Telegram account, which cannot ask for them again for a day."""

    __tablename__ = "telegram_refusals"

    chat_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=func.now())


class TelegramCursor(Base):
    """The last update of a bot that was handled, kept in the transaction that handled it."""

    __tablename__ = "telegram_cursors"

    bot_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    update_id: Mapped[int] = mapped_column(BigInteger)
