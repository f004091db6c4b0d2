"""Checks addresses, and tells those of this machine from others."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach the host."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(address: str) -> None:
    """Raises ValueError for anything but HOST:PORT."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 65_536):
        raise ValueError("expected HOST:PORT")
