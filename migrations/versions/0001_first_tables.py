"""The first tables.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# All suffixes of a name ("alice", "lice", "ice" …), so that an indexed prefix match finds any part of it.
USERNAME_SEARCH = """
    CREATE FUNCTION username_search(username text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN array_to_tsvector(
        ARRAY(SELECT DISTINCT substr(lower(username), place) FROM generate_series(1, length(username)) AS place)
    )
"""


def upgrade() -> None:
    op.execute(USERNAME_SEARCH)
    op.create_table(
        "telegram_cursors",
        sa.Column("bot_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("update_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bot_id", name="pk_telegram_cursors"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("token", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("telegram_chat_id", sa.BigInteger(), nullable=True),
        sa.Column("telegram_name", sa.Text(), nullable=True),
        sa.Column("telegram_problem", sa.Text(), nullable=True),
        sa.Column("telegram_not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("notify_when_away", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "search", postgresql.TSVECTOR(), sa.Computed("username_search(username)", persisted=True), nullable=False
        ),
        sa.CheckConstraint("token IN (0, 1)", name="ck_users_token"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
    )
    op.create_index("ix_users_search", "users", ["search"], unique=False, postgresql_using="gin")
    op.create_index(
        "ix_users_telegram_chat_id",
        "users",
        ["telegram_chat_id"],
        unique=False,
        postgresql_where=sa.text("telegram_chat_id IS NOT NULL"),
    )
    op.create_index("uq_users_username", "users", [sa.literal_column('lower(username) COLLATE "C"')], unique=True)
    op.create_table(
        "conversations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("low_user_id", sa.BigInteger(), nullable=False),
        sa.Column("high_user_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("low_user_id < high_user_id", name="ck_conversations_pair"),
        sa.ForeignKeyConstraint(["high_user_id"], ["users.id"], name="fk_conversations_high_user_id"),
        sa.ForeignKeyConstraint(["low_user_id"], ["users.id"], name="fk_conversations_low_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        sa.UniqueConstraint("low_user_id", "high_user_id", name="uq_conversations_low_user_id_high_user_id"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"], unique=False)
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"], unique=False)
    op.create_table(
        "telegram_codes",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_telegram_codes_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_telegram_codes"),
    )
    op.create_index("ix_telegram_codes_user_id", "telegram_codes", ["user_id"], unique=False)
    op.create_table(
        "telegram_requests",
        sa.Column("chat_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("telegram_name", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("asked", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_telegram_requests_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chat_id", name="pk_telegram_requests"),
    )
    op.create_index("ix_telegram_requests_user_id", "telegram_requests", ["user_id"], unique=False)
    op.create_table(
        "messages",
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("author_id", sa.BigInteger(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name="fk_messages_author_id"),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name="fk_messages_conversation_id"),
        sa.PrimaryKeyConstraint("conversation_id", "seq", name="pk_messages"),
        sa.UniqueConstraint(
            "conversation_id", "author_id", "nonce", name="uq_messages_conversation_id_author_id_nonce"
        ),
    )
    op.create_index("ix_messages_version", "messages", ["conversation_id", "version"], unique=False)
    op.create_table(
        "notifications",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=True),
        sa.Column("card_id", sa.BigInteger(), nullable=True),
        sa.Column("card_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'sending', 'sent', 'cancelled', 'failed')", name="ck_notifications_state"
        ),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name="fk_notifications_conversation_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_notifications_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
    )
    op.create_index(
        "ix_notifications_card",
        "notifications",
        ["user_id", "conversation_id", "id"],
        unique=False,
        postgresql_where=sa.text("card_id IS NOT NULL"),
    )
    op.create_index(
        "ix_notifications_due",
        "notifications",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('pending', 'sending')"),
    )
    op.create_index(
        "uq_notifications_pending",
        "notifications",
        ["user_id", "conversation_id"],
        unique=True,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "uq_notifications_sending",
        "notifications",
        ["user_id", "conversation_id"],
        unique=True,
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.create_table(
        "participants",
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("read_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("active_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name="fk_participants_conversation_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_participants_user_id"),
        sa.PrimaryKeyConstraint("conversation_id", "user_id", name="pk_participants"),
    )
    op.create_index(
        "ix_participants_chats",
        "participants",
        ["user_id", "active_at", "conversation_id"],
        unique=False,
        postgresql_where=sa.text("active_at IS NOT NULL"),
    )


def downgrade() -> None:
    for table in (
        "participants",
        "notifications",
        "messages",
        "telegram_requests",
        "telegram_codes",
        "sessions",
        "conversations",
        "users",
        "telegram_cursors",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION username_search(text)")
