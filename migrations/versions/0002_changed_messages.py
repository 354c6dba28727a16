"""Record when a message was edited or removed.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("edited_at", "removed_at"):
        op.add_column("messages", sa.Column(name, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in ("edited_at", "removed_at"):
        op.drop_column("messages", name)
