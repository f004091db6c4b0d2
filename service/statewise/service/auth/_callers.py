"""Reads and extends the callers file, and identifies callers by bearer token or client certificate.

    [[caller]]
    owner = "ann"
    scopes = ["predict", "session"]
    token_sha256 = "…"

The file never holds tokens: an entry holds the sha256 of one. The hash needs neither salt nor slowness,
because tokens are 256 random bits. If a changed file is invalid, the callers stay as they were.
"""

import hashlib
import hmac
import json
import logging
import secrets
import shutil
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from statewise.service.auth._file_watch import FileWatch
from statewise.service.auth._identity import Identity, Scope
from statewise.service.base import ServiceError
from statewise.wire import Reason

_log = logging.getLogger(__name__)

_TOKEN_PREFIX = "swt_"  # lets scanners for leaked secrets recognise a token
_PREFIX_BYTES = 8
_CERTIFIED = frozenset({Scope.PREDICT, Scope.SESSION})

_Name = Annotated[str, Field(min_length=1, max_length=128)]


class CallersError(ValueError):
    """An invalid callers file. The message names file, entry and key, but no values."""


class Caller(BaseModel):
    """An entry of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner: _Name
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    token_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    certificate: _Name | None = None
    """A name in the client certificate: one of the alternative names, or the common name."""

    @model_validator(mode="after")
    def _has_one_credential(self) -> "Caller":
        if (self.token_sha256 is None) == (self.certificate is None):
            raise ValueError("expected either token_sha256 or certificate")
        return self

    @property
    def identity(self) -> Identity:
        """The identity of the caller."""
        return Identity(self.owner, self.scopes, self.token_sha256 or self.certificate or "")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    caller: Annotated[list[Caller], Field(min_length=1)]


@dataclass(frozen=True)
class _Known:
    """The callers by credential."""

    by_token: dict[bytes, Identity]
    by_certificate: dict[str, Identity]
    all: frozenset[Identity]

    @classmethod
    def read(cls, path: Path) -> "_Known":
        callers = read_callers(path)
        return cls(
            {
                bytes.fromhex(caller.token_sha256)[:_PREFIX_BYTES]: caller.identity
                for caller in callers
                if caller.token_sha256 is not None
            },
            {caller.certificate: caller.identity for caller in callers if caller.certificate is not None},
            frozenset(caller.identity for caller in callers),
        )


def add_token(path: Path, owner: str, scopes: Iterable[Scope]) -> str:
    """Makes a token of 256 random bits, and appends an entry for it to a callers file.

    The file is replaced in one step, so a server that follows it never reads half an entry.

    Args:
        path: The file; created if missing.
        owner: Name of the owner whose sessions the caller will use.
        scopes: Its permissions, at least one.

    Returns:
        The token, which is stored nowhere.

    Raises:
        CallersError: the file or the entry is invalid; the file is unchanged.
    """
    token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
    named = ", ".join(json.dumps(scope) for scope in Scope if scope in set(scopes))
    entry = (
        f"[[caller]]\nowner = {json.dumps(owner, ensure_ascii=False)}\nscopes = [{named}]\n"
        f'token_sha256 = "{digest_of(token)}"\n'
    )
    written = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        before = path.read_text().rstrip() if path.exists() else ""
        written.write_text(f"{before}\n\n{entry}".lstrip())
        read_callers(written)
        if path.exists():
            shutil.copymode(path, written)
        written.replace(path)
    except OSError as error:
        raise CallersError(f"{path}: {error.strerror}") from None
    except CallersError as error:
        raise CallersError(str(error).replace(str(written), str(path))) from None
    finally:
        written.unlink(missing_ok=True)
    return token


def digest_of(token: str) -> str:
    """Computes the sha256 of a token, 64 hexadecimal digits."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_callers(path: Path) -> list[Caller]:
    """Reads a callers file.

    Raises:
        CallersError: the file cannot be read, or an entry is invalid.
    """
    try:
        callers = _File.model_validate(tomllib.loads(path.read_text())).caller
    except ValidationError as error:
        # The message leaves values out: one may be a token in the place of its digest.
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
        raise CallersError(f"{path}: {where}: {first['msg']}") from None
    except OSError as error:
        raise CallersError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise CallersError(f"{path}: {error}") from None
    credentials = [caller.identity.credential for caller in callers]
    if len(set(credentials)) != len(credentials):
        raise CallersError(f"{path}: two callers have the same token or certificate")
    return callers


class Callers:
    """Identifies callers by the credentials of their calls.

    Args:
        path: The callers file; None: every client with a certificate of the trusted authority may predict and
            have sessions, as the owner that the certificate names.

    Raises:
        CallersError: as `read_callers`.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._watch = FileWatch() if path is None else FileWatch(path)
        self._known = _Known({}, {}, frozenset()) if path is None else _Known.read(path)

    def identify(self, *, authorization: str | None, certificate_names: Iterable[str]) -> Identity:
        """Returns the identity of a caller. A token takes precedence over a certificate.

        Args:
            authorization: The header `authorization`, or None.
            certificate_names: Names in the verified client certificate, the alternative ones first.

        Raises:
            ServiceError: UNAUTHENTICATED. The message says what was expected, and nothing about the token.
        """
        if authorization is not None:
            return self._of_token(authorization)
        names = list(certificate_names)
        if not names:
            raise _unauthenticated("expected metadata `authorization: Bearer TOKEN`; got none")
        if self._path is None:
            return Identity(names[0], _CERTIFIED, names[0])
        for name in names:
            if name in self._known.by_certificate:
                return self._known.by_certificate[name]
        raise _unauthenticated(f"no caller is known by the certificate of {names[0]!r}")

    def knows(self, identity: Identity) -> bool:
        """Returns whether a caller identified earlier is still in the file."""
        return self._path is None or identity in self._known.all

    def follow(self) -> bool:
        """Reads the file again if it has changed. Returns whether the callers may have changed."""
        if self._path is None or not self._watch.changed():
            return False
        try:
            self._known = _Known.read(self._path)
        except CallersError as error:
            _log.error("the callers stay as they were: %s", error)
            return False
        _log.info("%s was read again: %d callers", self._path, len(self._known.all))
        return True

    def _of_token(self, authorization: str) -> Identity:
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise _unauthenticated("expected metadata `authorization: Bearer TOKEN`; got another kind")
        digest = digest_of(token)
        # The first bytes of the digest find the entry; comparing all of it takes the same time wherever it
        # differs. The look-up may leak those bytes, but a digest is no step towards its token.
        identity = self._known.by_token.get(bytes.fromhex(digest)[:_PREFIX_BYTES])
        if identity is None or not hmac.compare_digest(identity.credential, digest):
            raise _unauthenticated("the token is not known")
        return identity


def _unauthenticated(message: str) -> ServiceError:
    return ServiceError(Reason.UNAUTHENTICATED, message)
