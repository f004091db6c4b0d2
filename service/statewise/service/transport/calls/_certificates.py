"""Reads the names in the verified certificate of a client."""

from collections.abc import Mapping


def certificate_names(auth_context: Mapping[str, object]) -> list[str]:
    """Names in the certificate, the alternative ones first.

    Args:
        auth_context: What gRPC knows of the client, lists of bytes by key.
    """
    names: list[str] = []
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        values = auth_context.get(key, ())
        assert isinstance(values, list | tuple), "gRPC gives lists"
        names += [value.decode(errors="replace") for value in values]
    return names
