"""Defines what server, client and exporter agree on, beside the messages themselves.

Holds the encoding of arrays as tensors and packed columns, the reasons of failures, and the metadata that
makes a model package self-describing. Nothing here does input or output.
"""

from statewise.wire._columns import pack_uint32, pack_uint64, unpack_uint32, unpack_uint64
from statewise.wire._entries import MetadataError, check_initial, check_parts
from statewise.wire._model_declaration import (
    BATCH,
    TIME,
    AxisWords,
    ModelDeclaration,
    Sharing,
    StateDeclaration,
    TensorDeclaration,
)
from statewise.wire._model_spec import METADATA_KEY, ModelSpec
from statewise.wire._reasons import Reason
from statewise.wire._specs import (
    CallShape,
    EncodeSpec,
    Exactness,
    GenerateSpec,
    StatePair,
    StatePart,
    TensorSpec,
    Vocabulary,
)
from statewise.wire._tensor_encoding import Chunk, named_tensor, nested
from statewise.wire._tensors import DTYPES, TensorError, fill_tensor, from_tensor, to_tensor
from statewise.wire._toml import place_in_toml, read_toml

__all__ = [
    "BATCH",
    "DTYPES",
    "METADATA_KEY",
    "TIME",
    "AxisWords",
    "CallShape",
    "Chunk",
    "EncodeSpec",
    "Exactness",
    "GenerateSpec",
    "MetadataError",
    "ModelDeclaration",
    "ModelSpec",
    "Reason",
    "Sharing",
    "StateDeclaration",
    "StatePair",
    "StatePart",
    "TensorDeclaration",
    "TensorError",
    "TensorSpec",
    "Vocabulary",
    "check_initial",
    "check_parts",
    "fill_tensor",
    "from_tensor",
    "named_tensor",
    "nested",
    "pack_uint32",
    "pack_uint64",
    "place_in_toml",
    "read_toml",
    "to_tensor",
    "unpack_uint32",
    "unpack_uint64",
]
