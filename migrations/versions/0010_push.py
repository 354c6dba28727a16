"""Keep the devices that get notices by Web Push, and how far they were told.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "push_devices",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("user_id", sa.BigInteger, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("endpoint", sa.Text, nullable=False, unique=True),
        sa.Column("p256dh", sa.Text, nullable=False),
        sa.Column("auth", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.now()),
    )
    op.add_column("participants", sa.Column("pushed_seq", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("participants", sa.Column("pushed_at", MOMENT))


def downgrade() -> None:
    for name in ("pushed_at", "pushed_seq"):
        op.drop_column("participants", name)
    op.drop_table("push_devices")
