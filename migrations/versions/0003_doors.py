"""What bans, second factors, invitations, blocks and safer links to Telegram need.

Revision ID: 0003
Revises: 0002
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
NOW = sa.text("now()")
LOOKALIKE = (
    "trim(both '-' from regexp_replace(replace(replace(translate(lower(username), '01i_.', 'oll--'),"
    " 'rn', 'm'), 'vv', 'w'), '-+', '-', 'g'))"
)


def upgrade() -> None:
    op.add_column("users", sa.Column("is_admin", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("users", sa.Column("banned_at", MOMENT))
    op.add_column("users", sa.Column("deleted_at", MOMENT))
    op.add_column("users", sa.Column("totp_secret", sa.Text))
    op.add_column("users", sa.Column("totp_step", sa.BigInteger))
    op.add_column("users", sa.Column("telegram_username", sa.Text))
    op.add_column("users", sa.Column("lookalike", sa.Text, sa.Computed(LOOKALIKE, persisted=True), nullable=False))
    op.create_index("ix_users_lookalike", "users", ["lookalike"])

    op.add_column("sessions", sa.Column("address", sa.Text, nullable=False, server_default=""))
    op.add_column("sessions", sa.Column("seen_at", MOMENT, nullable=False, server_default=NOW))
    op.add_column("sessions", sa.Column("confirmed_at", MOMENT, nullable=False, server_default=NOW))

    op.add_column("participants", sa.Column("shown_seq", sa.BigInteger))
    op.add_column("messages", sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()))

    # The release before inserts codes without a session; they no longer link anybody.
    op.add_column(
        "telegram_codes",
        sa.Column(
            "session_id",
            sa.LargeBinary,
            sa.ForeignKey("sessions.id", ondelete="CASCADE", name="fk_telegram_codes_session_id"),
        ),
    )
    op.create_index("ix_telegram_codes_session_id", "telegram_codes", ["session_id"])
    op.add_column("telegram_requests", sa.Column("telegram_username", sa.Text))
    op.add_column("telegram_requests", sa.Column("number", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "telegram_refusals",
        sa.Column("chat_id", sa.BigInteger, primary_key=True, autoincrement=False),
        _user("telegram_refusals", "user_id", primary_key=True),
        sa.Column("created_at", MOMENT, nullable=False, server_default=NOW),
    )

    op.create_table(
        "recovery_codes",
        _user("recovery_codes", "user_id", primary_key=True),
        sa.Column("id", sa.LargeBinary, primary_key=True),
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.LargeBinary, primary_key=True),
        _user("invitations", "made_by_id", index=True),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", MOMENT, nullable=False, server_default=NOW),
        sa.Column("expires_at", MOMENT, nullable=False),
        _user("invitations", "used_by_id", nullable=True),
    )
    op.create_table(
        "blocks",
        _user("blocks", "user_id", primary_key=True),
        _user("blocks", "blocked_id", primary_key=True),
        sa.Column("created_at", MOMENT, nullable=False, server_default=NOW),
    )


def _user(table: str, column: str, *, nullable: bool = False, **more: Any) -> sa.Column[int]:
    key = sa.ForeignKey("users.id", ondelete="CASCADE", name=f"fk_{table}_{column}")
    return sa.Column(column, sa.BigInteger, key, nullable=nullable, autoincrement=False, **more)


def downgrade() -> None:
    for table in ("blocks", "invitations", "recovery_codes", "telegram_refusals"):
        op.drop_table(table)
    dropped = {
        "telegram_requests": ("number", "telegram_username"),
        "telegram_codes": ("session_id",),
        "messages": ("held",),
        "participants": ("shown_seq",),
        "sessions": ("confirmed_at", "seen_at", "address"),
        "users": ("lookalike", "telegram_username", "totp_step", "totp_secret", "deleted_at", "banned_at", "is_admin"),
    }
    for table, columns in dropped.items():
        for column in columns:
            op.drop_column(table, column)
