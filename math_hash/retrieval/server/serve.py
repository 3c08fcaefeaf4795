"""Running an application on an address."""

import os
import signal
import sys
import threading
from contextlib import suppress

from fastapi import FastAPI

from math_hash.errors import InputError

SHUTDOWN_SECONDS = 3  # for answers under way when the server is told to stop


def serve(app: FastAPI, host: str, port: int) -> None:
    """Run the server until it is interrupted or told to stop (SIGINT, SIGTERM), which takes up to 4 seconds.

    A job of the model that is still running then is left: what it would have written to the index is not written,
    and what was acknowledged is on the disk.

    Raises:
        InputError: the address cannot be listened on.
    """
    import uvicorn

    from math_hash.retrieval.server.connections import bounded_connections, most_connections

    protocol = bounded_connections(most_connections())
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", http=protocol, ws="none", lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )  # fmt: skip
    if threading.current_thread() is threading.main_thread():  # uvicorn raises the signal again once it has stopped
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run()
    except (SystemExit, OverflowError) as error:
        raise InputError(f"`host` {host}, `port` {port}: cannot be listened on; choose another port") from error
    if not app.state.server.worker.close(seconds=1):
        print("a request was still at work and was left", file=sys.stderr, flush=True)
        os._exit(0)
