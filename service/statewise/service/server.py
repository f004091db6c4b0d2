"""A server's life: it starts, serves, sees to what is due, and stops.

The server is ready when `start` returns, and has let go of everything when `stop` does.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO

import grpc
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import make_wsgi_app

from statewise.service.assembly import build_dataplane
from statewise.service.auth import Callers, CallersError
from statewise.service.base import Settings
from statewise.service.engine import EngineError, check_provider
from statewise.service.monitoring import HttpProbe, Readiness, make_registry
from statewise.service.process import ServerEventLoop, keep_freed_pages
from statewise.service.registry import ModelRegistry
from statewise.service.telemetry import _logs as logs
from statewise.service.transport import (
    AuthInterceptor,
    TlsError,
    TransportError,
    add_reflection,
    allow_many_connections,
    check_exposure,
    listen,
    options,
)
from statewise.service.transport.servicers import (
    AdminServicer,
    Health,
    ModelServicer,
    SequenceServicer,
    add_sequence_service,
)
from statewise.v1 import admin_pb2_grpc, model_pb2_grpc

_log = logging.getLogger(__name__)

_RUN_THREADS = 2
_LONGEST_SWEEP_PAUSE_S = 10.0
_CALLERS_POLL_S = 1.0


class ServerError(Exception):
    """The server cannot start. The message says why."""


class Server:
    """A server on the running event loop.

    Args:
        settings: What the operator set.
        tracer_provider: OpenTelemetry's, of a program that has one, takes the server's spans; None: they go
            where the settings say.
        make_models: Makes the registry of models, as for `build_dataplane`.

    Raises:
        ServerError: traces are wanted and the extra for them is not installed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        tracer_provider: Any = None,
        make_models: Callable[..., ModelRegistry] = ModelRegistry,
    ) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(_RUN_THREADS, thread_name_prefix="statewise-run")
        self._exporting = _export_traces(settings) if tracer_provider is None else None
        self._dataplane = build_dataplane(
            settings,
            executor=self._executor,
            tracer_provider=tracer_provider or self._exporting,
            make_models=make_models,
        )
        self._sequences = SequenceServicer(self._dataplane)
        self._health = Health()
        self._readiness = Readiness(self._dataplane)
        self._probe = self._make_probe() if settings.metrics_listen else None
        self.metrics_address = ""
        """HOST:PORT of /metrics, /readyz and /healthz, once `start` has begun."""
        self._callers: Callers | None = None
        self._grpc: grpc.aio.Server | None = None
        self._admin: AdminServicer | None = None
        self._chores: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        """Loads the repository, listens, and gives the address: HOST:PORT.

        Raises:
            ServerError: an address or the execution provider cannot be had, or an address must not be
                served so; a file of callers or certificates cannot be used.
            ServiceError: the repository cannot be read.
        """
        settings = self._settings
        try:
            check_exposure(settings)
            check_provider(settings.execution_provider)
            if settings.callers is not None or settings.tls_client_ca is not None:
                self._callers = Callers(settings.callers)
        except (TransportError, EngineError, CallersError) as error:
            raise ServerError(str(error)) from None
        if self._probe is not None:
            self._start_probe(self._probe)
        self._dataplane.models.load_all()
        tell_health = partial(self._health.tell, self._dataplane.models)
        self._grpc = grpc.aio.server(interceptors=self._interceptors(), options=options(settings))
        add_sequence_service(self._sequences, self._grpc)
        model_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(self._dataplane, changed=tell_health), self._grpc
        )
        self._admin = AdminServicer(self._dataplane, version=_release(), started_ns=time.time_ns())
        admin_pb2_grpc.add_AdminServiceServicer_to_server(self._admin, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        if settings.reflection:
            add_reflection(self._grpc)
        try:
            address = listen(self._grpc, settings)
        except (TransportError, TlsError) as error:
            raise ServerError(str(error)) from None
        tell_health()
        await self._grpc.start()
        self._readiness.listening()
        # A session may live for up to a tenth longer than the limit says.
        sweep_s = min(_LONGEST_SWEEP_PAUSE_S, settings.idle_timeout_s / 10)
        self._do_every(sweep_s, "ending idle sessions", self._expire_idle_sessions)
        self._do_every(settings.stall_s, "cutting stalled streams", self._cut_stalled_streams)
        if settings.repository_poll_s:
            self._do_every(
                settings.repository_poll_s, "following the repository", self._follow_the_repository
            )
        if self._callers is not None:
            follow = partial(self._follow_the_callers, self._callers)
            self._do_every(_CALLERS_POLL_S, "following the callers", follow)
        return address

    async def stop(self) -> None:
        """Refuses what is new, lets what is under way finish within the grace period, and ends."""
        grace_s = self._settings.grace_s
        self._dataplane.limits.draining = True
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self._health.drain()
        self._sequences.drain(grace_s)
        if self._admin is not None:
            self._admin.drain()
        if self._grpc is not None:
            await self._grpc.stop(grace_s)
        if self._probe is not None:
            await asyncio.to_thread(self._probe.stop)
        self._executor.shutdown()
        if self._exporting is not None:
            await asyncio.to_thread(self._exporting.shutdown)

    def _interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        gate = AuthInterceptor(self._callers, self._dataplane.statistics)
        if self._dataplane.tracing is None:
            return [gate]
        from statewise.service.transport.tracing import TracingInterceptor

        return [gate, TracingInterceptor(self._dataplane.tracing)]

    def _make_probe(self) -> HttpProbe:
        readiness = self._readiness
        registry = make_registry(
            self._dataplane, release=_release(), is_ready=lambda: not readiness.why_not_ready()
        )
        return HttpProbe(
            make_wsgi_app(registry), why_not_ready=readiness.why_not_ready, is_alive=readiness.is_alive
        )

    def _start_probe(self, probe: HttpProbe) -> None:
        host, _, port = self._settings.metrics_listen.rpartition(":")
        try:
            self.metrics_address = probe.start(host, int(port))
        except OSError as error:
            raise ServerError(
                f"cannot listen on {host}:{port} for metrics: {error.strerror or error}"
            ) from None
        _log.info("metrics, readiness and liveness on http://%s", self.metrics_address)

    # --- chores ---

    def _do_every(self, pause_s: float, what: str, chore: Callable[[], Awaitable[None]]) -> None:
        """Whatever goes wrong with it once, the next time comes."""

        async def again_and_again() -> None:
            while True:
                await asyncio.sleep(pause_s)
                try:
                    await chore()
                except Exception as error:
                    _log.error("%s failed", what, exc_info=error)

        self._chores.append(asyncio.create_task(again_and_again()))

    async def _expire_idle_sessions(self) -> None:
        ended = 0
        for some in self._dataplane.session_administration.expire_idle():
            ended += some
            await asyncio.sleep(0)
        if ended:
            _log.info("%d sessions were idle for too long and have ended", ended)

    async def _cut_stalled_streams(self) -> None:
        self._sequences.cut_stalled()

    async def _follow_the_callers(self, callers: Callers) -> None:
        """Whom the file names no longer loses the streams that are open, too."""
        if callers.follow():
            self._sequences.end_streams_of_strangers(callers)

    async def _follow_the_repository(self) -> None:
        await self._dataplane.models.follow()
        self._health.tell(self._dataplane.models)


def serve(settings: Settings, *, ready: TextIO) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        settings: What the operator set.
        ready: Gets one line, `listening on HOST:PORT`, when the server is ready.

    Raises:
        ServerError, ServiceError: as `Server.start`.
    """
    logs.configure(style=settings.log_format, level=settings.log_level)
    keep_freed_pages()
    allow_many_connections()
    with asyncio.Runner(loop_factory=ServerEventLoop) as runner:
        runner.run(_serve(settings, ready))


async def _serve(settings: Settings, ready: TextIO) -> None:
    server = Server(settings)
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    try:
        address = await server.start()
        print(f"listening on {address}", file=ready, flush=True)
        await asked_to_stop.wait()
        _log.info("stopping; requests in flight have %g s", settings.grace_s)
    finally:
        await server.stop()


def _export_traces(settings: Settings) -> Any:
    """Where spans go by the settings; None: nowhere."""
    if not settings.traces_endpoint:
        return None
    try:
        from statewise.service.tracing import export_to
    except ModuleNotFoundError as error:
        raise ServerError(f"traces_endpoint needs {error.name}: pip install 'statewise[otel]'") from None
    return export_to(settings.traces_endpoint, ratio=settings.traces_ratio, release=_release())


def _release() -> str:
    try:
        return version("statewise")
    except PackageNotFoundError:
        return "0.0.0"
