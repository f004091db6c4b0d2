"""Defines the settings of the HTTP ports: where metrics and health are told, and to whom."""

from pydantic import ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from statewise.service.base._addresses import check_address, is_loopback


class HttpSettings(BaseSettings):
    """Settings of the HTTP ports, a part of `Settings`. HTTP is in clear and asks for no credentials."""

    metrics_insecure: bool = False
    """Allows a metrics_listen address that other machines can reach. That port is neither encrypted nor
    protected by credentials."""
    metrics_listen: str = ""
    """HOST:PORT for /metrics, /readyz and /healthz over HTTP; empty: no HTTP."""
    health_listen: str = ""
    """HOST:PORT for /readyz and /healthz over HTTP and nothing else, for an orchestrator's probes, also of a
    server with TLS; any address, for it tells no more than grpc.health.v1 tells everybody. Empty: no such
    port."""

    @field_validator("metrics_listen")
    @classmethod
    def _metrics_stay_on_this_machine(cls, value: str, others: ValidationInfo) -> str:
        if value:
            check_address(value)
            if not (is_loopback(value.rpartition(":")[0]) or others.data.get("metrics_insecure")):
                raise ValueError("expected an address of this machine alone, or metrics_insecure = true")
        return value

    @field_validator("health_listen")
    @classmethod
    def _health_has_a_port(cls, value: str) -> str:
        if value:
            check_address(value)
        return value
