"""Checks what settings say of the session store: its address, and what needs which kind of address."""

_STORES = ("sqlite", "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")


def check_store(address: str) -> None:
    """Checks an address as far as it can be told without asking. Raises ValueError."""
    scheme, _, rest = address.partition(":")
    if address != "none" and not (rest.strip("/") and scheme in _STORES):
        raise ValueError("expected none, sqlite:PATH, or an address of a Redis server")


def check_store_options(
    address: str,
    *,
    required: bool,
    replies_wait: bool,
    certificate: object,
    key: object,
    authorities: object,
    sentinel_password: object,
) -> None:
    """Checks that settings fit the address of the store; those that are not set are False or None.

    Raises:
        ValueError: One does nothing with this address, or lacks another. The message names it.
    """
    if required and address == "none":
        raise ValueError("store_required needs store")
    if replies_wait and address == "none":
        raise ValueError("durability = reply needs store")
    scheme = address.partition(":")[0]
    if (certificate is None) != (key is None):
        raise ValueError("store_certificate and store_key need each other")
    for name, value in (("store_ca", authorities), ("store_certificate", certificate)):
        if value is not None and not scheme.startswith("rediss"):
            raise ValueError(f"{name} needs TLS: expected store = rediss://… or rediss+sentinel://…")
    if sentinel_password is not None and not scheme.endswith("+sentinel"):
        raise ValueError("store_sentinel_password_file needs Sentinels: expected store = redis+sentinel://…")
