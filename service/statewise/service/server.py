"""Runs the server: starts it, repeats its background tasks, and stops it.

The server accepts calls when `start` returns, and holds no resources when `stop` returns.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO
from wsgiref.types import WSGIApplication

from prometheus_client import make_wsgi_app

from statewise.service.assembly import build_dataplane
from statewise.service.auth import Callers, CallersError
from statewise.service.base import Settings
from statewise.service.dataplane.durability import StoreThread
from statewise.service.engine import EngineError, check_provider
from statewise.service.monitoring import HttpProbe, Readiness, make_registry
from statewise.service.process import allow_many_connections, keep_freed_pages
from statewise.service.registry import ModelRegistry
from statewise.service.session_state import SessionTable
from statewise.service.stores import StoreError
from statewise.service.telemetry import configure_logs
from statewise.service.transport import GrpcServer, TlsError, TransportError, check_exposure, make_event_loop

_log = logging.getLogger(__name__)

_RUN_THREADS = 2
_LONGEST_SWEEP_PAUSE_S = 10.0
_CALLERS_POLL_S = 1.0
_PORT_ANSWER_S = 5.0
_ON_PORTS = {"metrics": "metrics, readiness and liveness", "health": "readiness and liveness"}
"""What HTTP ports tell, by their names in errors."""


class ServerError(Exception):
    """The server cannot start. The message says why."""


class Server:
    """A server on the running event loop.

    Args:
        settings: The operator's settings.
        tracer_provider: OpenTelemetry's tracer provider, which gets the server's spans; None: the settings
            say where spans go.
        make_models: Makes the registry of models, as for `build_dataplane`.
        make_table: Makes the session table, as for `build_dataplane`.
        port_check_s: Time between two calls through the server's own port.

    Raises:
        ServerError: the settings ask for traces, and the extra for traces is not installed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        tracer_provider: Any = None,
        make_models: Callable[..., ModelRegistry] = ModelRegistry,
        make_table: Callable[..., SessionTable] = SessionTable,
        port_check_s: float = 10.0,
    ) -> None:
        self._settings = settings
        self._port_check_s = port_check_s
        self._executor = ThreadPoolExecutor(_RUN_THREADS, thread_name_prefix="statewise-run")
        try:
            store = StoreThread.of_settings(settings)
        except StoreError as error:
            raise ServerError(f"store: {error}") from None
        self._trace_exporter = _export_traces(settings) if tracer_provider is None else None
        self._dataplane = build_dataplane(
            settings,
            executor=self._executor,
            tracer_provider=tracer_provider or self._trace_exporter,
            make_models=make_models,
            make_table=make_table,
            store=store,
        )
        self._grpc = GrpcServer(self._dataplane, release=_release())
        self._readiness = Readiness(self._dataplane)
        self._probes: list[HttpProbe] = []
        self.metrics_address = ""
        """HOST:PORT of /metrics, /readyz and /healthz; set early in `start`, before models load."""
        self.health_address = ""
        """HOST:PORT of /readyz and /healthz alone; set early in `start`, before models load."""
        self.address = ""
        """HOST:PORT of the services; set early in `start`, before models load."""
        self._callers: Callers | None = None
        self._background: list[asyncio.Task[None]] = []
        self._checkpointing: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Starts to listen and to load the repository. Returns the address, HOST:PORT.

        Returns when every model has its default version or has failed, at the latest after `startup_s`. Until
        then requests get MODEL_LOADING, and health and readiness say that the server does not serve.

        Raises:
            ServerError: an address cannot be opened, or must not be served without TLS and callers; the
                execution provider is missing; the callers file or a certificate is invalid.
            ServiceError: the repository is no folder.
        """
        settings, models = self._settings, self._dataplane.models
        try:
            check_exposure(settings)
            check_provider(settings.execution_provider)
            if settings.callers is not None or settings.tls_client_ca is not None:
                self._callers = Callers(settings.callers)
            models.require_repository()
            self._start_probes()
            self.address = self._grpc.listen(self._callers)
        except (TransportError, TlsError, EngineError, CallersError) as error:
            raise ServerError(str(error)) from None
        models.begin()  # before the first call is accepted: from then on versions are known as loading
        await self._grpc.serve()
        models.changed = self._grpc.update_health
        self._readiness.listening()
        self._start_background_tasks()
        await models.wait_for_defaults(settings.startup_s)
        return self.address

    async def wait_until_loaded(self) -> None:
        """Waits until no version of the repository is being loaded."""
        await self._dataplane.models.wait_until_loaded()

    async def stop(self) -> None:
        """Refuses new requests, lets others finish within the grace period, and frees all resources."""
        self._dataplane.limits.draining = True
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._grpc.stop()
        if (stored := self._dataplane.sessions.stored) is not None:
            if self._checkpointing is not None:
                self._checkpointing.cancel()
                await asyncio.wait([self._checkpointing])
            await stored.close()
        await self._dataplane.models.close()
        for probe in self._probes:
            await asyncio.to_thread(probe.stop)
        self._executor.shutdown()
        if self._trace_exporter is not None:
            await asyncio.to_thread(self._trace_exporter.shutdown)

    def _start_probes(self) -> None:
        """Opens the HTTP ports. Raises ServerError."""
        settings, readiness = self._settings, self._readiness
        if settings.metrics_listen:
            registry = make_registry(
                self._dataplane, release=_release(), is_ready=lambda: not readiness.why_not_ready()
            )
            self.metrics_address = self._start_probe(
                settings.metrics_listen, make_wsgi_app(registry), what="metrics"
            )
        if settings.health_listen:
            self.health_address = self._start_probe(settings.health_listen, None, what="health")

    def _start_probe(self, address: str, metrics: WSGIApplication | None, *, what: str) -> str:
        """Opens one HTTP port and returns its address; `what` names it in the log and in errors."""
        host, _, port = address.rpartition(":")
        probe = HttpProbe(
            metrics, why_not_ready=self._readiness.why_not_ready, is_alive=self._readiness.is_alive
        )
        try:
            opened = probe.start(host, int(port))
        except OSError as error:
            raise ServerError(
                f"cannot listen on {host}:{port} for {what}: {error.strerror or error}"
            ) from None
        self._probes.append(probe)
        _log.info("%s on http://%s", _ON_PORTS[what], opened)
        return opened

    # --- background tasks ---

    def _start_background_tasks(self) -> None:
        settings = self._settings
        # A session may live up to a tenth longer than idle_timeout_s.
        sweep_s = min(_LONGEST_SWEEP_PAUSE_S, settings.idle_timeout_s / 10)
        self._repeat(sweep_s, "ending idle sessions", self._expire_idle_sessions)
        self._repeat(self._port_check_s, "checking the port", self._check_port)
        self._repeat(settings.stall_s, "cutting stalled streams", self._cut_stalled_streams)
        if (stored := self._dataplane.sessions.stored) is not None:
            stored.checkpoints.away_changed = self._grpc.update_health
            self._checkpointing = asyncio.create_task(stored.checkpoints.run())
        if settings.repository_poll_s:
            self._repeat(settings.repository_poll_s, "following the repository", self._follow_the_repository)
        if self._callers is not None:
            follow = partial(self._follow_the_callers, self._callers)
            self._repeat(_CALLERS_POLL_S, "following the callers", follow)

    def _repeat(self, interval_s: float, what: str, run: Callable[[], Awaitable[None]]) -> None:
        """Runs a task at an interval. A failing run is logged; the task runs again at the next interval."""

        async def repeating() -> None:
            while True:
                await asyncio.sleep(interval_s)
                try:
                    await run()
                except Exception as error:
                    _log.error("%s failed", what, exc_info=error)

        self._background.append(asyncio.create_task(repeating()))

    async def _expire_idle_sessions(self) -> None:
        left = 0
        for some in self._dataplane.idle_expiry.expire():
            left += some
            await asyncio.sleep(0)
        if left and self._dataplane.sessions.stored is None:
            _log.info("%d sessions were idle for too long and have ended", left)
        elif left:
            _log.info("%d sessions were idle for too long and sleep in the store", left)

    async def _check_port(self) -> None:
        self._readiness.port_checked(answered=await self._grpc.answers(_PORT_ANSWER_S))

    async def _cut_stalled_streams(self) -> None:
        self._grpc.cut_stalled_streams()

    async def _follow_the_callers(self, callers: Callers) -> None:
        """Reads a changed callers file; callers that the file no longer names lose their open streams."""
        if callers.follow():
            self._grpc.end_streams_of_unknown(callers)

    async def _follow_the_repository(self) -> None:
        await self._dataplane.models.follow()
        self._grpc.update_health()  # of versions that are gone


def serve(settings: Settings, *, ready: TextIO) -> None:
    """Serves until SIGTERM, SIGINT or SIGHUP; a SIGHUP that is ignored from the beginning (nohup) stays so.

    Args:
        settings: The operator's settings.
        ready: Gets one line, `listening on HOST:PORT`, when `Server.start` returns.

    Raises:
        ServerError, ServiceError: as `Server.start`.
    """
    configure_logs(style=settings.log_format, level=settings.log_level)
    for line in settings.misspelt_variables():
        _log.warning("%s", line)
    keep_freed_pages()
    allow_many_connections()
    with asyncio.Runner(loop_factory=partial(make_event_loop, settings.transport)) as runner:
        runner.run(_serve(settings, ready))


async def _serve(settings: Settings, ready: TextIO) -> None:
    server = Server(settings)
    stop_signal = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop_signal.set)
    stopping = asyncio.create_task(stop_signal.wait())
    starting = asyncio.create_task(server.start())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            print(f"listening on {starting.result()}", file=ready, flush=True)
        await stopping
        _log.info("stopping; the server ends within %g s", settings.grace_s)
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await server.stop()


def _export_traces(settings: Settings) -> Any:
    """OpenTelemetry's tracer provider by the settings; None: they ask for no traces."""
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
