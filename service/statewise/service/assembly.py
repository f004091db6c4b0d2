"""Builds the dataplane from settings: session table, schedulers, models, limits.

Starts nothing and loads no model. `server` adds the transport and starts both.
"""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any

from statewise.service.base import ModelKey, ServiceLimits, Settings
from statewise.service.dataplane import Dataplane, SessionStates
from statewise.service.dataplane.durability import StoreThread
from statewise.service.dataplane.sessions import (
    IdleExpiry,
    SessionAdministration,
    SessionDirectory,
    SessionListing,
    Sessions,
    SessionTurns,
    StoredSessions,
)
from statewise.service.engine import Engine, EngineProfile, load_engine
from statewise.service.packages import ServablePackage
from statewise.service.registry import InspectorPool, ModelRegistry
from statewise.service.scheduling import Scheduler
from statewise.service.scheduling.prefixes import PrefixBudget, PrefixTree
from statewise.service.session_state import SessionScan, SessionTable, Snapshots, StateArena, StoredQuotas
from statewise.service.telemetry import SlowRequests, Statistics
from statewise.wire import Exactness

_MakeScheduler = Callable[[Engine, StateArena, EngineProfile, ServablePackage], Scheduler]

if TYPE_CHECKING:
    from statewise.service.tracing import Tracing


def build_dataplane(
    settings: Settings,
    *,
    executor: Executor,
    clock: Callable[[], float] = time.monotonic,
    tracer_provider: Any = None,
    make_models: Callable[..., ModelRegistry] = ModelRegistry,
    make_table: Callable[..., SessionTable] = SessionTable,
    store: StoreThread | None = None,
) -> Dataplane:
    """Builds the server's behaviour without a transport; loads no model yet.

    Args:
        settings: The operator's settings.
        executor: Runs what would hold up the event loop.
        clock: Seconds, monotonic.
        tracer_provider: OpenTelemetry's, takes spans; None: there are no spans.
        make_models: Makes the registry, with the arguments of `ModelRegistry`.
        make_table: Makes the session table, with the arguments of `SessionTable`.
        store: Keeps sessions beyond the process; None: nothing does.
    """
    table = make_table(settings.sessions, clock=clock)

    def model_of(number: int) -> ModelKey:
        return models[number].key

    slow = SlowRequests(settings.slow_request_s, table, model_of=model_of, clock=clock)
    tracing = _tracing(tracer_provider, table, model_of, clock)
    prefixes = PrefixBudget(settings.prefix_bytes) if settings.prefix_bytes else None
    make_scheduler = _scheduler_maker(
        settings, table, prefixes, executor=executor, clock=clock, slow=slow, tracing=tracing
    )
    models = _build_models(settings, make_models, make_scheduler)
    limits, statistics = ServiceLimits(settings), Statistics()
    sessions, session_states, administration, idle_expiry = _build_sessions(
        models, table, limits, statistics, clock=clock, store=store
    )
    return Dataplane(
        models,
        table,
        sessions=sessions,
        session_states=session_states,
        session_administration=administration,
        idle_expiry=idle_expiry,
        limits=limits,
        statistics=statistics,
        slow=slow,
        tracing=tracing,
        prefixes=prefixes,
        clock=clock,
    )


def _tracing(
    tracer_provider: Any,
    table: SessionTable,
    model_of: Callable[[int], ModelKey],
    clock: Callable[[], float],
) -> "Tracing | None":
    if tracer_provider is None:
        return None
    from statewise.service.tracing import Tracing

    return Tracing(tracer_provider, table, model_of=model_of, clock=clock)


def _build_models(
    settings: Settings, make_models: Callable[..., ModelRegistry], make_scheduler: _MakeScheduler
) -> ModelRegistry:
    return make_models(
        settings.repository,
        make_engine=partial(
            load_engine, intra_op_threads=settings.intra_op_threads, provider=settings.execution_provider
        ),
        make_scheduler=make_scheduler,
        sessions=settings.sessions,
        test_s=settings.load_test_s,
        inspector=_inspector(settings) if settings.load_in_child else None,
        side_by_side=settings.load_versions,
    )


def _inspector(settings: Settings) -> InspectorPool:
    return InspectorPool(
        intra_op_threads=settings.intra_op_threads,
        provider=settings.execution_provider,
        test_s=settings.load_test_s,
        load_s=settings.load_s,
        load_bytes=settings.load_bytes,
    )


def _build_sessions(
    models: ModelRegistry,
    table: SessionTable,
    limits: ServiceLimits,
    statistics: Statistics,
    *,
    clock: Callable[[], float],
    store: StoreThread | None,
) -> tuple[Sessions, SessionStates, SessionAdministration, IdleExpiry]:
    quotas = StoredQuotas(
        owner_sessions=limits.settings.owner_sessions,
        owner_bytes=limits.settings.owner_store_bytes,
        store_bytes=limits.settings.store_bytes,
    )
    directory = SessionDirectory(
        models,
        table,
        limits=limits,
        statistics=statistics,
        stored_quotas=None if store is None else quotas,
    )
    turns = SessionTurns(models, table)
    scan = SessionScan(table)
    stored = None
    if store is not None:
        stored = StoredSessions(
            models,
            table,
            directory,
            turns,
            scan=scan,
            store=store,
            quotas=quotas,
            checkpoint_s=limits.settings.checkpoint_s,
            retention_s=limits.settings.session_retention_s,
            holds_replies=limits.settings.durability == "reply",
            required=limits.settings.store_required,
            clock=clock,
        )
    # Without a key of its own a server's snapshots are valid until it ends.
    snapshots = Snapshots(limits.settings.signing_key() or secrets.token_bytes(32))
    sessions = Sessions(
        models,
        table,
        directory=directory,
        turns=turns,
        limits=limits,
        snapshots=snapshots,
        stored=stored,
    )
    session_states = SessionStates(
        models, table, directory=directory, turns=turns, limits=limits, stored=stored
    )
    listing = SessionListing(models, table, scan=scan, stored=stored)
    administration = SessionAdministration(
        table, directory=directory, turns=turns, listing=listing, stored=stored
    )
    idle_timeout_s = limits.settings.idle_timeout_s
    idle_expiry = IdleExpiry(scan, directory, idle_timeout_s=idle_timeout_s, clock=clock, stored=stored)
    return sessions, session_states, administration, idle_expiry


def _scheduler_maker(
    settings: Settings,
    table: SessionTable,
    prefixes: PrefixBudget | None,
    *,
    executor: Executor,
    clock: Callable[[], float],
    slow: SlowRequests,
    tracing: Any,
) -> _MakeScheduler:
    def make_scheduler(
        engine: Engine, arena: StateArena, profile: EngineProfile, package: ServablePackage
    ) -> Scheduler:
        return Scheduler(
            engine,
            arena,
            table,
            profile,
            executor=executor,
            clock=clock,
            queue_steps=settings.queue_steps,
            queue_s=settings.queue_s,
            inline_s=settings.inline_s,
            slice_s=settings.piece_s,
            slow=slow,
            tracing=tracing,
            prefixes=_prefix_tree(settings, prefixes, engine, profile, package),
        )

    return make_scheduler


def _prefix_tree(
    settings: Settings,
    budget: PrefixBudget | None,
    engine: Engine,
    profile: EngineProfile,
    package: ServablePackage,
) -> PrefixTree | None:
    """Makes what keeps beginnings of a graph's sequences; None: they are not kept.

    They are where a row gives the same bits in any company and, but for an encoder's, in parts of any length.
    """
    is_encoder = not engine.spec.state and bool(package.spec.state)
    if (
        budget is None
        or not settings.keeps_prefixes(package.name)
        or profile.exactness is not Exactness.EXACT
        or not (profile.chunkable or is_encoder)
    ):
        return None
    return PrefixTree(
        budget,
        engine.spec,
        digest=package.digest,
        chunk_steps=settings.prefix_chunk,
        by_chunk=profile.chunkable,
        shared=settings.prefix_shared,
    )
