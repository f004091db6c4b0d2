"""Defines and reads the server's settings: flags override STATEWISE_* variables, these override a TOML file.

Only this module reads the environment. Times are in seconds and sizes in bytes, as the names say.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from statewise.service.base._addresses import check_address
from statewise.service.base._http_settings import HttpSettings
from statewise.service.base._prefix_settings import PrefixSettings
from statewise.service.base._settings_entries import (
    PREFIX,
    SettingsError,
    explain,
    unknown_variables,
    with_file,
)
from statewise.service.base._snapshot_key import check_key, read_key
from statewise.service.base._store_settings import check_store, check_store_options
from statewise.service.base._types import MAXIMUM_SESSIONS, MOST_KEPT

_KIB = 1024
_MIB = 1024 * _KIB
_GIB = 1024 * _MIB

_Positive = Annotated[int, Field(gt=0)]


class Settings(HttpSettings, PrefixSettings):
    """All settings of `statewise serve`. The string below each field is its row in docs/operations.md."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    repository: Path
    """Folder of models: <repository>/<model>/<version>/."""
    repository_poll_s: Annotated[float, Field(ge=0)] = 5.0
    """Time between two scans of the repository for added, removed and rolled-back versions; 0: no scans."""
    startup_s: Annotated[float, Field(ge=0)] = 60.0
    """Longest time that the server, once it listens, waits for the default versions of the repository before
    it prints `listening on HOST:PORT` and counts as ready."""
    load_in_child: bool = True
    """Loads and tests every version in a child process before the server loads it, so that a graph that
    crashes onnxruntime is a failed version. Without it such a graph ends the server."""
    load_s: Annotated[float, Field(gt=0)] = 600.0
    """Time after which the child gives up a version that is not loaded and tested."""
    load_test_s: Annotated[float, Field(ge=0)] = 10.0
    """Time that the measurements of a version may take. If it is too short to compare all sizes of batches,
    rows of different sessions do not share runs."""
    load_bytes: Annotated[int, Field(ge=256 * _MIB)] = 16 * _GIB
    """Most bytes of memory that the child may use."""
    load_versions: _Positive = 2
    """Most versions that are loaded at the same time, in a child each."""
    listen: str = "127.0.0.1:50051"
    """HOST:PORT to serve on; port 0 picks a free port."""
    transport: Literal["queue", "aio"] = "queue"
    """How the server speaks gRPC: queue (gRPC's completion queue, a step costs less CPU) or aio (grpc.aio).
    Where the platform or grpcio has no queue that can be used, the server says so and takes aio."""
    store: str = "none"
    """Where sessions are kept beyond the end of the process: none, sqlite:PATH, or a Redis server, as
    redis://HOST:PORT, rediss:// (TLS), unix:///PATH or redis+sentinel://HOST:PORT/SERVICE."""
    store_password: SecretStr | None = None
    """Password of the Redis server."""
    store_password_file: Path | None = None
    """File that holds the password of the Redis server; replaces store_password."""
    store_sentinel_password_file: Path | None = None
    """File that holds the password of the Sentinels."""
    store_prefix: str = "statewise:"
    """What the keys in the Redis server begin with. Servers with the same prefix share their sessions."""
    store_ca: Path | None = None
    """PEM file with the authorities of the Redis server's certificate. Unset: the system's."""
    store_certificate: Path | None = None
    """PEM file with the certificate that this server shows to Redis and to Sentinels."""
    store_key: Path | None = None
    """PEM file with the private key of store_certificate."""
    store_connect_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Longest wait for a connection to Redis, or to a Sentinel."""
    store_answer_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Longest wait for an answer of Redis, or for a lock that another process holds on SQLite's file."""
    store_synchronous: Literal["full", "normal"] = "full"
    """What a power cut costs with SQLite: full (nothing that is stored) or normal (the last checkpoints)."""
    checkpoint_s: Annotated[float, Field(gt=0)] = 0.1
    """Seconds between two checkpoints, which write changes to the store; up to half a second in all."""
    durability: Literal["interval", "reply"] = "interval"
    """When a reply about a session leaves: interval (at once) or reply (when the store has what it tells)."""
    store_required: bool = False
    """Refuses steps, generations and openings of sessions while the store is away (STORE_UNAVAILABLE); the
    server is then not ready."""
    session_retention_s: Annotated[float, Field(gt=0)] = 604_800.0
    """Time after which a stored session that nobody used is deleted."""
    store_bytes: _Positive | None = None
    """Most bytes of sessions in the store: 64 and both copies of the state each, and what kept requests and
    named checkpoints take. At this limit no session is opened, forked or restored, and no checkpoint is named
    (BYTES_LIMIT); sessions that exist go on. Unset: no limit."""
    message_bytes: Annotated[int, Field(ge=64 * _KIB)] = 4 * _MIB
    """Longest message that the server accepts. It limits replies, too: a step whose outputs, or a snapshot
    whose tokens, are longer is refused (BYTES_LIMIT) before it runs; predictions and
    generations are sent in several messages, of which one may be longer only if it holds a single row."""
    request_rows: _Positive = 65_536
    """Most rows in one request."""
    request_steps: _Positive = 1_048_576
    """Most time steps in one request, summed over its rows."""
    sessions: Annotated[int, Field(gt=0, le=MAXIMUM_SESSIONS)] = 100_000
    """Most sessions open at the same time."""
    state_bytes: _Positive = 4 * _GIB
    """Most bytes of session state in memory; both copies of each session count, and whatever else it keeps.
    With a store the longest idle sessions leave memory for others."""
    session_keep: Annotated[int, Field(ge=1, le=MOST_KEPT)] = MOST_KEPT
    """Most requests of a session that can be taken back; each but the first costs a copy of its state."""
    session_checkpoints: Annotated[int, Field(ge=0)] = 64
    """Most named checkpoints of a session; each costs a copy of its state and its names, and 20 bytes."""
    queue_steps: _Positive = 4_194_304
    """Most time steps that wait to run, for each model version."""
    queue_s: Annotated[float, Field(gt=0)] = 5.0
    """Longest time that predictions and generations may wait, estimated from the running jobs; requests that
    would wait longer are refused (QUEUE_FULL)."""
    prediction_bytes: _Positive = _GIB
    """Most bytes of inputs, states and outputs held for predictions and generations that are accepted and not
    yet delivered."""
    owner_prediction_bytes: _Positive | None = None
    """The same limit as prediction_bytes, for each owner. Unset: no limit per owner."""
    stream_requests: _Positive = 64
    """Most unanswered requests on one session stream; at this number the server stops reading from the
    stream."""
    idle_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    """Time after which an unused session expires; it may expire up to a tenth of this time later. With a
    store it leaves memory only, and wakes when it is used."""
    snapshot_key: SecretStr | None = None
    """Key that signs snapshots, at least 16 bytes. Servers with the same key accept each other's snapshots.
    Unset: a random key, so snapshots are valid until the process ends."""
    snapshot_key_file: Path | None = None
    """File that holds the snapshot key, at least 16 bytes; replaces snapshot_key."""
    tls_certificate: Path | None = None
    """PEM file with the server's certificate chain; a renewed file is read again. Unset: no TLS."""
    tls_key: Path | None = None
    """PEM file with the private key of tls_certificate."""
    tls_client_ca: Path | None = None
    """PEM file with the authorities whose client certificates are trusted. If set, every client must present
    a certificate."""
    callers: Path | None = None
    """TOML file that lists the callers, by token or client certificate, and their scopes; a changed file is
    read again."""
    insecure: bool = False
    """Allows listening on addresses other than loopback while TLS is off or anybody may call."""
    reflection: bool = False
    """Offers gRPC's server reflection, so that callers can read the contract from the server."""
    owner_sessions: _Positive | None = None
    """Most sessions that one owner has open at the same time; with a store those asleep count, too. Unset: no
    limit per owner."""
    owner_state_bytes: _Positive | None = None
    """Most bytes of session state that one owner has in memory: both copies, kept requests and named
    checkpoints. Unset: no limit per owner."""
    owner_store_bytes: _Positive | None = None
    """The same limit as store_bytes, for each owner. Unset: no limit per owner."""
    streams: _Positive = 16_384
    """Most session streams open at the same time."""
    calls: _Positive = 32_768
    """Most calls and streams open at the same time; further ones are refused (QUEUE_FULL)."""
    connections: _Positive = 16_384
    """Most connections open at the same time; the server closes further connections as they arrive."""
    connection_calls: _Positive = 4_096
    """Most calls and streams open at the same time on one connection; further ones wait at the client."""
    connection_age_s: Annotated[float, Field(ge=0)] = 0.0
    """Age at which the server ends a connection, so that clients spread over newly added servers; 0:
    never."""
    handshake_s: Annotated[float, Field(gt=0)] = 20.0
    """Time within which a new connection must complete its handshakes (TLS, HTTP/2)."""
    stall_s: Annotated[float, Field(gt=0)] = 60.0
    """Time after which the server cancels a call whose caller reads none of the replies; a stream may last up
    to twice as long."""
    log_format: Literal["console", "json"] = "console"
    """Form of the log on stderr: console for lines that people read, json for one JSON object a line."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    slow_request_s: Annotated[float, Field(ge=0)] = 0.0
    """Requests that take at least this long, from receipt to answer, are logged as warnings; 0: none are
    logged."""
    traces_endpoint: str = ""
    """http://HOST:PORT or https://HOST:PORT of an OpenTelemetry collector, for OTLP over gRPC; empty: no
    traces. Needs the extra otel."""
    traces_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of requests to trace, among those whose caller has not decided whether to trace."""
    grace_s: Annotated[float, Field(ge=0)] = 10.0
    """Time from SIGTERM to the end. Requests in flight have all but the last 1.5 s (a half, if less)."""
    intra_op_threads: _Positive = 1
    """Threads that onnxruntime uses within one run."""
    execution_provider: Literal["cpu", "cuda"] = "cpu"
    """Hardware that onnxruntime runs on; cuda needs onnxruntime-gpu instead of onnxruntime."""
    inline_s: Annotated[float, Field(ge=0)] = 0.002
    """Runs that are expected to take less time than this run on the event loop, because handing them to a
    thread costs more CPU. Until such a run ends, nothing else happens on the loop."""
    piece_s: Annotated[float, Field(gt=0)] = 0.002
    """Long jobs run in slices of about this time, so that single steps need not wait until a job ends."""

    @classmethod
    def load(cls, *, config: Path | None = None, **flags: Any) -> "Settings":
        """Merges flags (those that are not None), the environment and a TOML file.

        Raises:
            SettingsError: An entry is invalid; the message names key and value of the first such entry.
        """
        given = {key: value for key, value in flags.items() if value is not None}
        try:
            return with_file(cls, config)(**given)
        except ValidationError as error:
            raise SettingsError(explain(error.errors()[0], cls.model_fields, config)) from None
        except SettingsError:
            raise
        except (OSError, ValueError) as error:
            raise SettingsError(f"{config}: {error}") from None

    @classmethod
    def misspelt_variables(cls) -> list[str]:
        """Returns a line for each STATEWISE_ variable of the environment that is no setting."""
        return unknown_variables(os.environ, cls.model_fields)

    @field_validator("listen")
    @classmethod
    def _listen_has_a_port(cls, value: str) -> str:
        check_address(value)
        return value

    @model_validator(mode="after")
    def _belongs_together(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key need each other")
        check_store_options(
            self.store,
            required=self.store_required,
            replies_wait=self.durability == "reply",
            certificate=self.store_certificate,
            key=self.store_key,
            authorities=self.store_ca,
            sentinel_password=self.store_sentinel_password_file,
        )
        if self.session_retention_s < self.idle_timeout_s:
            raise ValueError("session_retention_s: expected at least idle_timeout_s")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        if self.snapshot_key is not None and self.snapshot_key_file is not None:
            raise ValueError("snapshot_key and snapshot_key_file: expected one of them")
        self.signing_key()
        return self

    @property
    def store_kind(self) -> str:
        """Kind of the store: none, sqlite or redis."""
        scheme = self.store.partition(":")[0]
        return scheme if scheme in ("none", "sqlite") else "redis"

    def signing_key(self) -> bytes | None:
        """Returns the key that signs snapshots; None if neither setting is set.

        Raises:
            ValueError: The key file cannot be read, or holds fewer than 16 bytes.
        """
        if self.snapshot_key_file is None:
            return None if self.snapshot_key is None else self.snapshot_key.get_secret_value().encode()
        return read_key(self.snapshot_key_file)

    @field_validator("snapshot_key")
    @classmethod
    def _key_is_long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_key(value.get_secret_value().encode())
        return value

    @field_validator("traces_endpoint")
    @classmethod
    def _traces_go_to_a_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("expected http://HOST:PORT or https://HOST:PORT")
        return value

    @field_validator("store")
    @classmethod
    def _store_is_known(cls, value: str) -> str:
        check_store(value)
        return value
