"""Keep how far messages got: delivered, told on Telegram; when people were last here; and who hides that.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    for name in ("delivered_seq", "told_seq", "fallen"):
        op.add_column("participants", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("participants", sa.Column("told_at", MOMENT))
    for name in ("hides_reading", "hides_presence"):
        op.add_column("users", sa.Column(name, sa.Boolean, nullable=False, server_default=sa.text("false")))
    op.add_column("users", sa.Column("seen_at", MOMENT))


def downgrade() -> None:
    for name in ("seen_at", "hides_presence", "hides_reading"):
        op.drop_column("users", name)
    for name in ("told_at", "fallen", "told_seq", "delivered_seq"):
        op.drop_column("participants", name)
