"""The command that serves a monitor."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from inspect import signature
from ipaddress import ip_address
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import load
from .._optional import import_optional

if TYPE_CHECKING:
    from fastapi import FastAPI

TOKEN, SETTINGS = "SKOOD_TOKEN", "SKOOD_SERVING_SETTINGS"
"""Variables of the environment, of which workers have a copy."""

_LIMITS = {
    "max_batch": "largest number of rows of a request",
    "max_body": "largest size of a request in bytes",
    "max_waiting": "number of requests that may wait for a thread",
    "threads": "number of requests that a process scores at once",
    "timeout": "seconds to wait for a request, and again for its scores",
}
_MOST_CONNECTIONS = 1000
_GRACE = 5
"""Seconds that a process has at its end beyond the time limit of a request."""


@dataclass(frozen=True)
class Settings:
    """What every process has to know to serve the same monitor."""

    folder: str
    network: str | None
    token_file: str | None
    options: dict[str, Any]

    @property
    def token(self) -> str | None:
        """The token of the file, or else of the environment."""
        if self.token_file is None:
            return os.environ.get(TOKEN)
        return Path(self.token_file).read_text(encoding="utf-8").strip()

    def app(self) -> FastAPI:
        """Load the monitor, and make the application."""
        from . import create_app

        network = None if self.network is None else _named(self.network)
        monitor = load(self.folder, network=network)
        return create_app(monitor, token=self.token, **self.options)


def make_app() -> FastAPI:
    """The application by the settings in the environment, for each worker process by itself."""
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    return Settings(**json.loads(os.environ[SETTINGS])).app()


def _end_with(parent: Any) -> None:
    """Let a worker end as by a signal once nobody is left who would end it."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the monitor of a folder until the process is told to end."""
    parser = _parser()
    given = parser.parse_args(arguments)
    uvicorn = import_optional("uvicorn", "serve", "python -m skood.serving")
    settings = _settings_of(given)
    try:
        if settings.token is None and not is_loopback(given.host):
            raise ValueError(
                f"{given.host} can be reached by other machines, and there is no token: give a "
                f"--token-file, or set the variable {TOKEN}."
            )
        app = settings.app() if given.workers == 1 else _checked(settings)
    except (ValueError, TypeError, OSError, ImportError, AttributeError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    uvicorn.run(
        app,
        factory=given.workers > 1,
        workers=given.workers,
        host=given.host,
        port=given.port,
        access_log=given.access_log,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=ceil(given.timeout) + _GRACE,
        timeout_worker_healthcheck=60,
    )


def is_loopback(host: str) -> bool:
    """Whether only the machine itself reaches an address or name."""
    try:
        found = [ip_address(host)]
    except ValueError:
        addresses = socket.getaddrinfo(host, None)
        found = [ip_address(str(address[4][0]).partition("%")[0]) for address in addresses]
    return all(address.is_loopback for address in found)


def _settings_of(given: argparse.Namespace) -> Settings:
    options = {name: getattr(given, name) for name in [*_LIMITS, "dtype"]}
    token_file = None if given.token_file is None else str(given.token_file.absolute())
    return Settings(str(given.folder.absolute()), given.network, token_file, options)


def _checked(settings: Settings) -> str:
    """What workers call, once a process of its own has shown that they can.

    This one loads nothing: workers are started, and not forked, and it has to last longest.
    """
    os.environ[SETTINGS] = json.dumps(asdict(settings))
    trial = multiprocessing.get_context("spawn").Process(target=_try)
    trial.start()
    trial.join()
    if trial.exitcode:
        raise ValueError("no worker process can be started: see above.")
    return f"{__name__}:{make_app.__name__}"


def _try() -> None:
    try:
        make_app()
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _named(name: str) -> Any:
    """What "module:name" stands for."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"--network has the form module:name, got {name!r}.")
    found = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _defaults() -> Mapping[str, Any]:
    from . import create_app

    parameters = signature(create_app).parameters
    return {name: parameters[name].default for name in _LIMITS}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m skood.serving",
        description="Serve a monitor: POST /predict gives verdicts, GET /health the state.",
    )
    parser.add_argument("folder", type=Path, help="what monitor.save has written")
    parser.add_argument(
        "--network",
        metavar="MODULE:NAME",
        help="the network, or a function that makes it, where the folder does not hold all of it",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="port (%(default)s)")
    parser.add_argument("--workers", type=_number, default=1, help="processes (%(default)s)")
    parser.add_argument(
        "--token-file",
        type=Path,
        help=f"file that holds the token of clients; by default the variable {TOKEN}",
    )
    parser.add_argument("--dtype", help="type of rows that come as JSON, such as float32")
    for name, default in _defaults().items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            help=f"{_LIMITS[name]} (%(default)s)",
        )
    parser.add_argument("--access-log", action="store_true", help="print a line for each request")
    return parser


def _port(text: str) -> int:
    if not 0 <= (number := int(text)) < 2**16:
        raise argparse.ArgumentTypeError(f"{number} is not from 0 to {2**16 - 1}")
    return number


def _number(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number
