"""Explains why connections fail: TLS on one side only, certificates that are not accepted, proxies.

gRPC reports each of them as a server that is unavailable, in words of its TLS library. Nothing here connects.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from statewise.client.values import Status

_NOT_CONNECTED = "connections to all backends failing"
_CLOSED = "Socket closed"
_EXPECTS_TLS = "a server that expects TLS ends connections like this: tls=True or tls=Tls(ca=…) speaks it"
_EXPECTS_CERTIFICATE = (
    "a server that asks for a client certificate ends connections like this when there is none or a wrong "
    "one: tls=Tls(certificate=…, key=…)"
)
_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables that gRPC looks for, in this order."""


@dataclass(frozen=True, slots=True)
class Route:
    """How a channel reaches its server.

    Attributes:
        tls: whether the connection is encrypted.
        proxy: host and port of the proxy in use; empty: none.
        variable: variable of the environment that names it.
    """

    tls: bool
    proxy: str = ""
    variable: str = ""

    @classmethod
    def of(
        cls, target: str, *, tls: bool, proxies: bool, environment: Mapping[str, str] = os.environ
    ) -> "Route":
        """Finds the proxy that gRPC takes to a target, if `proxies` allows one."""
        variable = next((name for name in _VARIABLES if environment.get(name)), "")
        if not (proxies and variable) or target.startswith(("unix", "vsock")):
            return cls(tls)
        spared = environment.get("no_grpc_proxy") or environment.get("no_proxy") or ""
        host = re.sub("^(dns:(//[^/]*/)?|ipv4:|ipv6:)", "", target).rpartition(":")[0].strip("[]").lower()
        if any(host.endswith(entry) for entry in spared.lower().replace(" ", "").split(",") if entry):
            return cls(tls)
        # Messages must not show the name and password of the proxy.
        return cls(tls, urlsplit(environment[variable]).netloc.rpartition("@")[2], variable)

    def explain(self, status: Status) -> Status:
        """Returns a failure of the transport in words of this library."""
        if status.code != "UNAVAILABLE" or status.reason:
            return status
        status = self._explain_tls(status)
        if self.proxy:
            through = f"through the proxy {self.proxy}, which the environment names in {self.variable}"
            status = replace(status, message=f"{status.message} ({through})")
        return status

    def _explain_tls(self, status: Status) -> Status:
        said = status.message
        where = re.search(r"ipv[46]:(\S+?): ", said)
        at = f"at {where[1]}" if where else "at that address"
        if "WRONG_VERSION_NUMBER" in said:
            why = f"the server {at} does not speak TLS: leave tls= out, or is it another port?"
        elif "certificate has expired" in said:
            why = f"the certificate of the server {at} has expired: its operator renews it"
        elif "certificate is not yet valid" in said:
            why = f"the certificate of the server {at} is not yet valid: is this machine's clock right?"
        elif "CERTIFICATE_VERIFY_FAILED" in said:
            found = re.search(r"CERTIFICATE_VERIFY_FAILED: ([^:]+)", said)
            detail = f" ({found[1]})" if found else ""
            why = (
                f"the certificate of the server {at} cannot be verified{detail}: "
                "tls=Tls(ca=…) names its authority"
            )
        elif "Hostname Verification Check failed" in said:
            why = (
                f"the certificate of the server {at} is for another name than the target's: "
                "tls=Tls(server_name=…) expects that name"
            )
        elif _NOT_CONNECTED in said and _CLOSED in said:
            hint = _EXPECTS_CERTIFICATE if self.tls else _EXPECTS_TLS
            return replace(status, message=f"{said} ({hint})")
        else:
            return status
        return replace(status, message=why, tls_failed=True)
