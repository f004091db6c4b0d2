"""Defines the settings of shared prefixes: what is known of sequences that begin alike."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings


class PrefixSettings(BaseSettings):
    """A part of `Settings`."""

    prefix_bytes: Annotated[int, Field(ge=0)] = 0
    """Most bytes of states and outputs kept for beginnings that sequences share; what saves the fewest steps
    a byte goes first. 0: every sequence is computed from its first step."""
    prefix_models: str = ""
    """Names of the models whose beginnings are kept, separated by commas. Empty: all whose class is exact;
    those of other classes never are."""
    prefix_chunk: Annotated[int, Field(ge=8, le=65_536)] = 128
    """Time steps of a chunk. States are kept at the ends of chunks; shorter sequences are not looked up."""
    prefix_shared: bool = False
    """Lets owners use beginnings that others computed. Whoever may call can then find out, by the
    time of an answer, what others have sent."""

    def keeps_prefixes(self, model: str) -> bool:
        """Returns whether beginnings of a model's sequences are kept, if its class allows it."""
        names = [name.strip() for name in self.prefix_models.split(",") if name.strip()]
        return self.prefix_bytes > 0 and (not names or model in names)
