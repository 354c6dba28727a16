"""Keep others from taking a deleted user's name.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("former_names", sa.Column("id", sa.LargeBinary, primary_key=True))


def downgrade() -> None:
    op.drop_table("former_names")
