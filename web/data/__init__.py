"""PostgreSQL and Redis: connections, tables and prepared questions."""
