"""Find messages by their words.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# The functions of the index are not STRICT and have no SELECT, so PostgreSQL writes them out in it: half the time.
# Thai, Lao, Burmese, Khmer, Japanese, Chinese and Korean: each character counts as a word.
WORDS = r"""
    CREATE FUNCTION message_words(body text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_tsvector('simple', CASE
        WHEN octet_length(body) > char_length(body)
            AND body ~ '[\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\uD7AF]'
        THEN regexp_replace(body, '([\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\uD7AF])', ' \1 ', 'g')
        ELSE body END)
"""
# No word contains a space, so nobody can write one that opens a message to them.
SEARCH = r"""
    CREATE FUNCTION message_search(body text, readers text[]) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN message_words(body) || array_to_tsvector(readers)
"""
QUERY = r"""
    CREATE FUNCTION message_query(words text[], reader bigint) RETURNS tsquery
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT coalesce(string_agg(
            '''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || ''''
            || CASE WHEN length(lexeme) > 2 THEN ':*' ELSE '' END || ' & ', ''
        ), '') || '''' || 'user ' || reader || ''''
        FROM unnest(words) AS word, unnest(tsvector_to_array(message_words(word))) AS lexeme
        WHERE length(lexeme) > 2 OR ascii(lexeme) >= 3584 OR lexeme = lower(word))::tsquery
"""


def upgrade() -> None:
    for function in (WORDS, SEARCH, QUERY):
        op.execute(function)
    op.add_column("messages", sa.Column("readers", postgresql.ARRAY(sa.Text)))
    op.create_index(
        "ix_messages_search",
        "messages",
        [sa.text("message_search(body, readers)")],
        postgresql_using="gin",
        # The worker adds messages after they were sent: with it, a message costs a fifth of the writer's rate.
        postgresql_where=sa.text("readers IS NOT NULL AND removed_at IS NULL"),
        # What is pending is searched message by message, and whoever adds the one too many sorts them all in.
        postgresql_with={"gin_pending_list_limit": 512},
    )
    op.create_index(
        "ix_messages_unindexed", "messages", ["conversation_id", "seq"], postgresql_where=sa.text("readers IS NULL")
    )


def downgrade() -> None:
    op.drop_index("ix_messages_unindexed", "messages")
    op.drop_index("ix_messages_search", "messages")
    op.drop_column("messages", "readers")
    op.execute("DROP FUNCTION message_query(text[], bigint)")
    op.execute("DROP FUNCTION message_search(text, text[])")
    op.execute("DROP FUNCTION message_words(text)")
