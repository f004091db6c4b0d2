"""What an operator can set, with defaults: flags over STATEWISE_* variables over a TOML file.

Nothing reads the environment but this. Every entry of `Settings` is a limit or a place, in the unit that its
name says.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from statewise.service.table import MAXIMUM_SESSIONS

_KIB = 1024
_MIB = 1024 * _KIB
_GIB = 1024 * _MIB

_Positive = Annotated[int, Field(gt=0)]


class SettingsError(ValueError):
    """A setting that cannot be used. The message names its key and value."""


class Settings(BaseSettings):
    """Everything `statewise serve` can be told."""

    model_config = SettingsConfigDict(env_prefix="STATEWISE_", extra="forbid", frozen=True)

    repository: Path
    """Folder of models: <repository>/<model>/<version>/."""
    repository_poll_s: Annotated[float, Field(ge=0)] = 5.0
    """Time between two looks for new, gone and rolled back versions; 0: none."""
    listen: str = "127.0.0.1:50051"
    """HOST:PORT to serve on; port 0 picks a free one."""
    metrics_insecure: bool = False
    """Lets metrics_listen be an address that other machines reach: what it tells has no encryption and asks
    for no credentials."""
    metrics_listen: str = ""
    """HOST:PORT for /metrics, /readyz and /healthz over HTTP; empty: none."""
    store: str = "none"
    """Where sessions outlive the process: none."""
    message_bytes: Annotated[int, Field(ge=64 * _KIB)] = 4 * _MIB
    """Longest message taken and sent."""
    request_rows: _Positive = 65_536
    """Rows of one request."""
    request_steps: _Positive = 1_048_576
    """Time steps of one request, all rows together."""
    sessions: Annotated[int, Field(gt=0, le=MAXIMUM_SESSIONS)] = 100_000
    """Sessions open at once."""
    state_bytes: _Positive = 4 * _GIB
    """Bytes of session state in memory, both copies of each session counted."""
    queue_steps: _Positive = 4_194_304
    """Time steps that wait to run, for each model version."""
    stream_requests: _Positive = 64
    """Unanswered requests of one session stream; then the server reads no further."""
    idle_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    """Time after which a session that nobody uses ends; up to a tenth later."""
    snapshot_key: SecretStr | None = None
    """Signs snapshots; servers that share it take each other's. Unset: they end with the process."""
    grace_s: Annotated[float, Field(ge=0)] = 10.0
    """Time that requests in flight get to finish after SIGTERM."""
    intra_op_threads: _Positive = 1
    """Threads that onnxruntime uses within one run."""
    execution_provider: Literal["cpu", "cuda"] = "cpu"
    """What onnxruntime runs on; cuda needs onnxruntime-gpu in the place of onnxruntime."""
    inline_s: Annotated[float, Field(ge=0)] = 0.0003
    """Runs expected to take less than this happen on the event loop: handing them to a thread costs about as
    much."""
    piece_s: Annotated[float, Field(gt=0)] = 0.002
    """Long work is cut into pieces of about this long, so that single steps need not wait for its end."""

    @classmethod
    def load(cls, *, config: Path | None = None, **flags: Any) -> "Settings":
        """Merges flags (those that are not None), the environment and a TOML file.

        Raises:
            SettingsError: naming key and value of the first entry that cannot be used.
        """
        given = {key: value for key, value in flags.items() if value is not None}
        try:
            return _with_file(cls, config)(**given)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "missing":
                raise SettingsError(f"{key} is not set: give --{key.replace('_', '-')}") from None
            raise SettingsError(f"{key} = {first['input']!r}: {first['msg']}") from None
        except (OSError, ValueError) as error:
            raise SettingsError(f"{config}: {error}") from None

    @field_validator("listen")
    @classmethod
    def _listen_has_a_port(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isdecimal() and int(port) < 65_536):
            raise ValueError("expected HOST:PORT")
        return value

    @field_validator("metrics_listen")
    @classmethod
    def _metrics_stay_on_this_machine(cls, value: str, others: ValidationInfo) -> str:
        if value:
            cls._listen_has_a_port(value)
            if not (_is_loopback(value.rpartition(":")[0]) or others.data.get("metrics_insecure")):
                raise ValueError("expected an address of this machine alone, or metrics_insecure = true")
        return value

    @field_validator("store")
    @classmethod
    def _store_is_known(cls, value: str) -> str:
        if value != "none":
            raise ValueError("expected none; stores that outlive the process are not built yet")
        return value


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _with_file(cls: type[Settings], config: Path | None) -> type[Settings]:
    if config is None:
        return cls
    if not config.is_file():
        raise SettingsError(f"config = {str(config)!r}: no such file")

    class SettingsWithFile(cls):  # type: ignore[misc, valid-type]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config)

    return SettingsWithFile
