"""Keep which chats somebody pinned or muted, and which messages they starred.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    for name in ("pinned_at", "muted_until"):
        op.add_column("participants", sa.Column(name, MOMENT))
    op.add_column("participants", sa.Column("starred", sa.ARRAY(sa.BigInteger)))
    op.create_index(
        "ix_participants_pinned", "participants", ["user_id"], postgresql_where=sa.text("pinned_at IS NOT NULL")
    )
    op.create_index(
        "ix_participants_starred", "participants", ["user_id"], postgresql_where=sa.text("starred IS NOT NULL")
    )


def downgrade() -> None:
    for name in ("starred", "pinned"):
        op.drop_index(f"ix_participants_{name}", "participants")
    for name in ("starred", "muted_until", "pinned_at"):
        op.drop_column("participants", name)
