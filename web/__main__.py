"""`python -m web` serves the site in WEB_PROCESSES processes."""

import asyncio
import os
import sys
import tempfile

from web import log, settings
from web.server.listening import listen
from web.server.supervisor import Supervisor


def main() -> int:
    """The exit code: 0 after SIGINT or SIGTERM."""
    chosen = settings.load()
    log.configure(chosen)
    try:
        listening = listen(chosen.host, chosen.port)
    except OSError as error:
        print(f"knock: cannot serve on {chosen.host} port {chosen.port}: {error.strerror}.", file=sys.stderr)
        return 1
    with listening, tempfile.TemporaryDirectory(prefix="knock-metrics-") as folder:
        # The web processes add up their figures in a folder that prometheus_client looks for when it is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        return asyncio.run(Supervisor(chosen.web_processes, listening).run())


if __name__ == "__main__":
    sys.exit(main())
