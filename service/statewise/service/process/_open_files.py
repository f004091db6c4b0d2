"""Raises the number of files that this process may have open, each connection being one."""

import resource


def allow_many_connections() -> None:
    """Raises the soft limit, usually 1,024, to the hard limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
