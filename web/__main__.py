"""`python -m web` serves the site in WEB_PROCESSES processes."""

import asyncio
import os
import sys
import tempfile

from web import log, settings
from web.server import CannotStart, cluster
from web.server.listening import listen
from web.server.supervisor import Supervisor


def main() -> int:
    """The exit code: 0 after SIGINT or SIGTERM."""
    chosen = settings.load()
    log.configure(chosen)
    try:
        cluster.refuse(chosen.redis_url)
        with listen(chosen.host, chosen.port) as listening, tempfile.TemporaryDirectory(prefix="knock-") as folder:
            # The web processes add up their figures here. prometheus_client reads the variable when it is imported.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            return asyncio.run(Supervisor(chosen.web_processes, listening).run())
    except CannotStart as error:
        print(f"knock: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
