"""`python -m web` serves the site in WEB_PROCESSES processes, which uvicorn's supervisor starts and replaces."""

import errno
import os
import socket
import sys
import tempfile
import time

import uvicorn

from web import log, settings
from web.server.supervisor import Multiprocess
from web.settings import Settings

BACKLOG = 2048
"""Connections that may wait to be accepted: as many pages come back at once after a restart."""
UNREAD_MILLISECONDS = 8_000
"""After so long without taking what it was sent, a peer is cut off by the kernel (TCP_USER_TIMEOUT, RFC 5482)."""
PARTING_SECONDS = 5
"""For requests that are under way when the process is told to end."""
STARTING_SECONDS = 30
"""For a process to answer its parent for the first time, on a machine that is busy with starting others."""
PORT_PATIENCE = 3
"""Seconds in which the processes of a supervisor that was killed end by themselves and give the port back."""
MAX_FRAME = 64 * 1024
"""Bytes."""


def main() -> None:
    chosen = settings.load()
    log.configure(chosen)
    config = uvicorn.Config(
        "web.app:from_environment",  # by name, since each process loads it for itself
        factory=True,
        workers=chosen.web_processes,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=PARTING_SECONDS,
        timeout_worker_healthcheck=STARTING_SECONDS,
        access_log=False,
        log_config=None,
        server_header=False,
    )
    with _listen(chosen) as listening, tempfile.TemporaryDirectory(prefix="knock-metrics-") as folder:
        # The figures of all processes are added up in a folder, which prometheus_client looks for when imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        Multiprocess(config, sockets=[listening]).run()


def _listen(chosen: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in chosen.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; the connections inherit it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
    deadline = time.monotonic() + PORT_PATIENCE
    while True:
        try:
            listening.bind((chosen.host, chosen.port))
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                print(f"knock: cannot serve on {chosen.host} port {chosen.port}: {error.strerror}.", file=sys.stderr)
                raise SystemExit(1) from None
            time.sleep(0.1)
    listening.listen(BACKLOG)
    listening.set_inheritable(True)
    return listening


if __name__ == "__main__":
    main()
