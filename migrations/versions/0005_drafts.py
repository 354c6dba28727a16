"""Keep what participants have typed and not sent.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("participants", sa.Column("draft", sa.Text, nullable=False, server_default=""))
    op.add_column("participants", sa.Column("draft_edition", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    for name in ("draft_edition", "draft"):
        op.drop_column("participants", name)
