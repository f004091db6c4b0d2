"""Lets settings read a TOML file, which flags and environment override."""

from pathlib import Path
from typing import TypeVar

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from statewise.service.base._settings_errors import SettingsError

_Settings = TypeVar("_Settings", bound=BaseSettings)


def with_file(cls: type[_Settings], config: Path | None) -> type[_Settings]:
    """Returns settings that read a file, too; None: as they are. Raises SettingsError: there is no file."""
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
