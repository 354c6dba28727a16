"""Whether the user of this process could run the site: `python -m web.server.probe` ends with 1 and says why not."""

import os
import sys
from pathlib import Path

import redis
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from web import settings
from web.server import CannotStart, listening
from web.server.rights import TOP
from web.settings import BadSetting

READ = ("web", "templates", "static", "node_modules/htmx.org/dist")


def main() -> None:
    """Raises what is in the way."""
    for folder in READ:
        for path in [TOP / folder, *(TOP / folder).rglob("*")]:
            _demand_access(path)
    chosen = settings.read(os.environ)
    listening.listen(chosen.host, chosen.port).close()
    create_engine(chosen.database_url, connect_args={"connect_timeout": 5}).connect().close()
    with redis.Redis.from_url(chosen.redis_url, socket_connect_timeout=5, socket_timeout=5) as client:
        client.ping()


def _demand_access(path: Path) -> None:
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise CannotStart(f"{path} cannot be read.")


if __name__ == "__main__":
    try:
        main()
    except (BadSetting, CannotStart, OSError, SQLAlchemyError, redis.RedisError) as error:
        sys.exit(str(error).splitlines()[0])
