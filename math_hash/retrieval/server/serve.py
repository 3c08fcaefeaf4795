"""Running an application on an address."""

from fastapi import FastAPI

from math_hash.errors import InputError


def serve(app: FastAPI, host: str, port: int) -> None:
    """Run the server until it is interrupted.

    Raises:
        InputError: the address cannot be listened on.
    """
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_keep_alive=10))
    try:
        server.run()
    except SystemExit as error:
        raise InputError(f"`host` {host}, `port` {port}: cannot be listened on; choose another port") from error
