"""The web application around a monitor."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from numpy.typing import DTypeLike
from starlette.requests import ClientDisconnect

from .._monitor import Monitor
from .._sklearn import Interval, StrOptions, validate_params
from ..monitoring import DriftMonitor
from ._judging import float_types_of_fit
from ._reading import JSON, NPY, Reader
from ._refusal import RefusalError
from ._service import BUSY, Service

_CLOSE = {"Connection": "close"}
_READ_ON = 8
"""As many times the largest body are read of a larger one, so that its sender gets the answer."""


@validate_params(
    {
        "monitor": [Monitor],
        "token": [str, None],
        "drift": [StrOptions({"auto"}), DriftMonitor, None],
        "dtype": "no_validation",
        "max_batch": [Interval(Integral, 1, None, closed="left")],
        "max_body": [Interval(Integral, 1, None, closed="left")],
        "max_waiting": [Interval(Integral, 0, None, closed="left")],
        "threads": [Interval(Integral, 1, None, closed="left")],
        "timeout": [Interval(Real, 0, None, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def create_app(
    monitor: Monitor,
    *,
    token: str | None = None,
    drift: Any = "auto",
    dtype: DTypeLike | None = None,
    max_batch: int = 1024,
    max_body: int = 2**24,
    max_waiting: int = 32,
    threads: int = 1,
    timeout: float = 10.0,
) -> FastAPI:
    """Make a web application that answers with the verdicts of a monitor.

    ``POST /predict`` takes rows, and answers with the label, the verdict, the score and the p-value
    of each. ``GET /health`` says whether the process is ready, what runs in it, what it has
    answered, and whether the stream of rows has changed. :ref:`deploy_serve` shows both.
    ``python -m skood.serving`` serves a monitor that was saved.

    Parameters
    ----------
    monitor : Monitor
        Fitted, and calibrated if there are to be p-values. It must stay as it is.
    token : str, default=None
        What clients have to send, as ``Authorization: Bearer ...``, for both endpoints. By default
        nothing: for a service that other machines cannot reach.
    drift : "auto", DriftMonitor or None, default="auto"
        Watches the stream of the rows that are scored, in this process. "auto" makes one where the
        monitor is calibrated. One that is given, say to go on with a saved stream, watches this
        monitor; None watches nothing.
    dtype : dtype, default=None
        Type of the rows of a request in JSON, which has numbers of one kind only. By default that
        of the rows of ``fit``, where these were floats; else 64-bit floats, or integers where no
        number has a fraction.
    max_batch : int, default=1024
        Largest number of rows of a request.
    max_body : int, default=16777216
        Largest size of a request in bytes.
    max_waiting : int, default=32
        How many requests may wait for a thread, or be read. Others are told to come again, by
        status 503.
    threads : int, default=1
        How many requests are scored at once. Libraries may use more threads for each.
    timeout : float, default=10.0
        Seconds to wait for a request to be read, and again for its scores; after these, the client
        gets status 408 or 504. A pass of the network that has begun is not broken off.

    Returns
    -------
    app : fastapi.FastAPI
        The application, which any ASGI server runs.

    Raises
    ------
    ImportError
        If fastapi is not installed.
    NotFittedError
        If the monitor is not fitted.
    ValueError
        If a parameter is not what it has to be, ``dtype`` is no type of numbers, the token holds
        other than visible ASCII characters, or ``drift`` watches another monitor.

    Notes
    -----
    An application serves in the process that it was made in, and no other: libraries with threads
    of their own, as OpenMP, faiss and torch have them, may hang in a process that was forked after
    they had begun. There it refuses to start. Let every process load the monitor itself.

    Of errors of network and monitor, clients learn no more than that there was one; the logger
    "skood.serving" has all of it.

    Examples
    --------
    >>> from fastapi.testclient import TestClient
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import make_monitor
    >>> from skood.datasets import load_digits_ood
    >>> from skood.serving import create_app
    >>> X, y = load_digits_ood(return_X_y=True)
    >>> X, y = X.reshape(len(X), -1)[y != -1], y[y != -1]
    >>> net = MLPClassifier((32,), random_state=0, max_iter=50, tol=1).fit(X[:700], y[:700])
    >>> monitor = make_monitor(net).fit(X[700:900], y[700:900]).calibrate(X[900:])
    >>> with TestClient(create_app(monitor)) as client:
    ...     answer = client.post("/predict", json={"rows": X[:1].tolist()})
    ...     health = client.get("/health")
    >>> for prediction in answer.json()["predictions"]:
    ...     print(prediction)
    {'label': 0, 'verdict': 1, 'score': -..., 'p_value': ...}
    >>> health.json()["rows"], health.json()["drift"]["alarm"]
    (1, False)
    """
    guard = _Guard(token)
    service = Service(
        monitor,
        drift,
        Reader(max_batch, _types(monitor, dtype)),
        n_threads=threads,
        max_waiting=max_waiting,
        timeout=timeout,
    )
    # No pages that describe the interface: they load scripts from elsewhere.
    app = FastAPI(
        lifespan=_running, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    # The functions know it by the application alone, since fastapi never forgets a function.
    app.state.guard, app.state.service, app.state.max_body = guard, service, max_body
    app.add_api_route("/predict", _predict, methods=["POST"])
    app.add_api_route("/health", _health, methods=["GET", "HEAD"])
    return app


@asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.start()
    yield
    await asyncio.to_thread(service.close)


async def _predict(request: Request) -> Response:
    state = request.app.state
    try:
        state.guard.check(request)
        answer = await _answer(state.service, request, state.max_body)
    except RefusalError as refusal:
        state.service.answers[refusal.status] += 1
        return _refused(refusal)
    state.service.answers[200] += 1
    return Response(answer, media_type=JSON)


async def _health(request: Request) -> Response:
    state = request.app.state
    try:
        state.guard.check(request)
        state.service.refuse_forked()
    except RefusalError as refusal:
        return _refused(refusal)
    is_ready, told = state.service.health()
    return JSONResponse(told, 200 if is_ready else 503)


def _types(monitor: Monitor, dtype: DTypeLike | None) -> Callable[[str | None], np.dtype | None]:
    """What gives the type of rows that come as JSON, by the name of the input."""
    if dtype is None:
        return float_types_of_fit(monitor).get
    if (found := np.dtype(dtype)).kind not in "biuf":
        raise ValueError(f"dtype has to be a type of numbers, got {found}.")
    return lambda _: found


class _Guard:
    """Lets requests pass that show a token, if there is one."""

    def __init__(self, token: str | None) -> None:
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise ValueError("A token has to be one or more visible ASCII characters.")
        if token is not None and " " in token:
            raise ValueError("A token has no spaces.")
        self._token = None if token is None else token.encode()

    def check(self, request: Request) -> None:
        if self._token is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # In a time that does not depend on where the two differ.
        is_right = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if scheme.lower() != "bearer" or not is_right:
            raise RefusalError(
                401,
                "the request has to come with the token of the service, as "
                "'Authorization: Bearer ...'",
                {"WWW-Authenticate": "Bearer"},
            )


async def _answer(service: Service, request: Request, max_body: int) -> bytes:
    media_type = _media_type(request)
    service.enter()
    is_submitted = False
    try:
        body = await _within(
            service.timeout, _read(request, max_body), 408, "the request did not come", _CLOSE
        )
        future = service.submit(body, media_type)
        # The place is free once a thread is, and not when the client is not waited for any more.
        future.add_done_callback(lambda _: service.leave())
        is_submitted = True
    finally:
        if not is_submitted:
            service.leave()
    return await _within(
        service.timeout, asyncio.wrap_future(future), 504, "there were no scores", BUSY
    )


async def _within(
    seconds: float, awaited: Any, status: int, what: str, headers: dict[str, str]
) -> Any:
    try:
        return await asyncio.wait_for(awaited, seconds)
    except TimeoutError:
        raise RefusalError(status, f"{what} within {seconds:g} s", headers) from None


async def _read(request: Request, max_body: int) -> bytes:
    """The body, no more of which is kept than may be."""
    parts, size = [], 0
    too_large = RefusalError(413, f"the body is larger than {max_body} bytes")
    if _length(request) > max_body and "expect" in request.headers:
        raise too_large  # before anything of it is sent
    try:
        async for part in request.stream():
            size += len(part)
            if size <= max_body:
                parts.append(part)
            elif size > _READ_ON * max_body:
                raise RefusalError(413, too_large.reason, _CLOSE)
            else:
                parts.clear()
    except ClientDisconnect:
        raise RefusalError(400, "the connection ended before the request did") from None
    if size > max_body:
        raise too_large
    return b"".join(parts)


def _length(request: Request) -> int:
    """The length of the body that is announced, 0 where none is."""
    given = request.headers.get("content-length", "0")
    if not (given.isascii() and given.isdigit()):
        raise RefusalError(400, "the length of the body is no number")
    return int(given)


def _media_type(request: Request) -> str:
    given = request.headers.get("content-type", "")
    media_type, *parameters = (part.strip().lower() for part in given.split(";"))
    charsets = [p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")]
    if media_type not in (JSON, NPY) or any(charset != "utf-8" for charset in charsets):
        raise RefusalError(415, f"expected {JSON} in UTF-8 or {NPY}, got {given or 'nothing'!r}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusalError(415, "compressed bodies are not read")
    return media_type


def _refused(refusal: RefusalError) -> Response:
    return JSONResponse({"detail": refusal.reason}, refusal.status, refusal.headers)
