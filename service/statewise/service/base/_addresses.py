"""Tells addresses of this machine from others."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach the host."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
