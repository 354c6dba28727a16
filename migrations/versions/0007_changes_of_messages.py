"""Edit, remove, answer and react: earlier texts, what a message answers, its reactions, and cards that are out of date.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("messages", sa.Column("reply_to", sa.BigInteger))
    op.add_column("messages", sa.Column("reactions", JSONB(none_as_null=True)))
    op.create_index(
        "ix_messages_reply_to",
        "messages",
        ["conversation_id", "reply_to", "seq"],
        postgresql_where=sa.text("reply_to IS NOT NULL"),
    )
    op.create_table(
        "earlier_texts",
        sa.Column("conversation_id", sa.BigInteger, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("written_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id", "seq"], ["messages.conversation_id", "messages.seq"], name="fk_earlier_texts_message"
        ),
    )
    op.create_table(
        "stale_cards",
        sa.Column(
            "notification_id",
            sa.BigInteger,
            sa.ForeignKey("notifications.id", ondelete="CASCADE", name="fk_stale_cards_notification_id"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("due_at", MOMENT, nullable=False, server_default=sa.text("now()")),
    )


def downgrade() -> None:
    op.drop_table("stale_cards")
    op.drop_table("earlier_texts")
    op.drop_index("ix_messages_reply_to", "messages")
    for name in ("reactions", "reply_to"):
        op.drop_column("messages", name)
