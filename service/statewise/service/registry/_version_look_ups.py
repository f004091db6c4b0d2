"""Finds served versions for requests, and says why a version is not served."""

from contextlib import AbstractContextManager

from statewise.service.base import ServiceError
from statewise.service.registry._loaded_model import LoadedModel, VersionStatus
from statewise.service.registry._version_records import VersionRecords
from statewise.wire import Reason


class VersionLookUps:
    """Look-ups among the records of versions, for requests."""

    def __init__(self) -> None:
        self._records = VersionRecords()

    def default_version(self, name: str) -> int | None:
        """Returns the version that serves when none is named; None: no version of the model serves."""
        return self._records.default(name)

    def find(self, name: str, version: int = 0) -> LoadedModel:
        """Returns the version that serves under that number; 0: the default one.

        Raises:
            ServiceError: MODEL_LOADING; PACKAGE_INVALID: the version could not be loaded, with the reason;
                MODEL_NOT_FOUND, naming what is served.
        """
        default = self._records.default(name)
        record = self._records.get((name, version or default or 0))
        if record is not None and record.loaded is not None:
            return record.loaded
        self._refuse_while_loading(name, version)
        failed = self._records.failed_version(name, version)
        if failed is not None:
            number, trouble = failed
            raise ServiceError(
                Reason.PACKAGE_INVALID, f"model {name!r} version {number} could not be loaded: {trouble}"
            )
        if default is None:
            served = ", ".join(self._records.served_models()) or "none"
            raise ServiceError(Reason.MODEL_NOT_FOUND, f"no model {name!r} is served; served are: {served}")
        served = ", ".join(map(str, self._records.served_versions(name)))
        raise ServiceError(
            Reason.MODEL_NOT_FOUND, f"model {name!r} has no version {version}; served are: {served}"
        )

    def serves(self, model: LoadedModel) -> bool:
        """Returns whether a version that was found before serves new work still."""
        record = self._records.get(model.key)
        return record is not None and record.loaded is model

    def look_up(self, name: str, version: int = 0) -> LoadedModel:
        """Finds like `find`; a version named by number may also be one that serves its open sessions only."""
        key = (name, version)
        record = self._records.get(key)
        if record is not None and record.loaded is not None:
            return record.loaded
        return self._records.newest().get(key) or self.find(name, version)

    def find_digest(self, name: str, digest: str, preferred: int = 0) -> LoadedModel:
        """Returns a version of a model that has that digest; the preferred one where several have it.

        Raises:
            ServiceError: as `find`; MODEL_CHANGED: the model is served, with other digests;
                MODEL_LOADING: a version of it is being loaded, whose digest is not known yet.
        """
        served = self._records.served_versions(name)
        for version in sorted(served, key=lambda version: version != preferred):
            loaded = self.find(name, version)
            if loaded.package.digest == digest:
                return loaded
        self._refuse_while_loading(name)
        self.find(name)
        raise ServiceError(
            Reason.MODEL_CHANGED, f"no served version of model {name!r} has the digest {digest[:12]}…"
        )

    def keeping(self, loaded: LoadedModel) -> AbstractContextManager[None]:
        """Keeps a version in memory for as long as the context lasts: a session of it is about to begin."""
        return self._records.keeping(loaded)

    def statuses(self) -> list[VersionStatus]:
        """Returns every known version, by name and number; may be called from any thread."""
        return self._records.statuses()

    def _refuse_while_loading(self, name: str, version: int = 0) -> None:
        """Raises ServiceError (MODEL_LOADING) while that version, or for 0 any of the model, is loaded."""
        if self._records.is_loading(name, version):
            which = f"model {name!r} version {version}" if version else f"model {name!r}"
            raise ServiceError(
                Reason.MODEL_LOADING, f"{which} is being loaded and tested: try again in a moment"
            )
