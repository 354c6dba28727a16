"""Keep people's languages, and what they want to be called.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("display_name", sa.Text))
    op.add_column("users", sa.Column("hue", sa.SmallInteger))
    op.add_column("users", sa.Column("language", sa.Text))
    op.add_column("users", sa.Column("browser_language", sa.Text))
    computed = sa.Computed("username_search(coalesce(display_name, ''))", persisted=True)
    op.add_column("users", sa.Column("display_search", postgresql.TSVECTOR, computed, nullable=False))
    op.create_index("ix_users_display_search", "users", ["display_search"], postgresql_using="gin")


def downgrade() -> None:
    for name in ("display_search", "browser_language", "language", "hue", "display_name"):
        op.drop_column("users", name)
