"""The .proto files: generated code is fresh, everything is commented and named by one style."""

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import descriptor_pb2

PROTO = Path(__file__).parents[2] / "proto"
SERVICES = {"SequenceService", "ModelService", "AdminService"}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", PROTO / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def contract(
    generator: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> list[descriptor_pb2.FileDescriptorProto]:
    out = tmp_path_factory.mktemp("descriptors") / "contract.binpb"
    generator.describe(out)
    return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


def test_generated_code_is_fresh(generator: ModuleType, tmp_path: Path) -> None:
    generator.generate(tmp_path)
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "statewise/v1").iterdir()}
    committed = {path.name: path.read_bytes() for path in (PROTO / "statewise/v1").glob("*_pb2*.py*")}
    assert sorted(fresh) == sorted(committed)
    stale = [name for name in fresh if fresh[name] != committed[name]]
    assert not stale, "run: make proto"


Element = tuple[str, tuple[int, ...]]  # full name, path in the descriptor (descriptor.proto, SourceCodeInfo)


def message_elements(
    message: descriptor_pb2.DescriptorProto, name: str, path: tuple[int, ...]
) -> Iterator[Element]:
    yield name, path
    for i, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, 2, i)
    synthetic = {field.oneof_index for field in message.field if field.proto3_optional}
    for i, oneof in enumerate(message.oneof_decl):
        if i not in synthetic:
            yield f"{name}.{oneof.name}", (*path, 8, i)
    for i, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from message_elements(nested, f"{name}.{nested.name}", (*path, 3, i))
    for i, enum in enumerate(message.enum_type):
        yield from enum_elements(enum, f"{name}.{enum.name}", (*path, 4, i))


def enum_elements(
    enum: descriptor_pb2.EnumDescriptorProto, name: str, path: tuple[int, ...]
) -> Iterator[Element]:
    yield name, path
    for i, value in enumerate(enum.value):
        yield f"{name}.{value.name}", (*path, 2, i)


def elements(file: descriptor_pb2.FileDescriptorProto) -> Iterator[Element]:
    yield f"{file.name} (above its syntax line)", (12,)
    for i, message in enumerate(file.message_type):
        yield from message_elements(message, message.name, (4, i))
    for i, enum in enumerate(file.enum_type):
        yield from enum_elements(enum, enum.name, (5, i))
    for i, service in enumerate(file.service):
        yield service.name, (6, i)
        for j, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (6, i, 2, j)


def uncommented(files: list[descriptor_pb2.FileDescriptorProto]) -> list[str]:
    bare = []
    for file in files:
        locations = file.source_code_info.location
        commented = {tuple(place.path) for place in locations if place.leading_comments.strip()}
        bare += [name for name, path in elements(file) if path not in commented]
    return bare


def test_every_element_is_commented(contract: list[descriptor_pb2.FileDescriptorProto]) -> None:
    assert contract
    assert not uncommented(contract)


def test_missing_comments_are_noticed(generator: ModuleType, tmp_path: Path) -> None:
    bare_root = tmp_path / "proto"
    shutil.copytree(PROTO, bare_root, ignore=shutil.ignore_patterns("*.py", "*.pyi", "__pycache__"))
    for path in bare_root.glob("statewise/v1/*.proto"):
        path.write_text(re.sub(r"^\s*//.*\n", "", path.read_text(), flags=re.MULTILINE))
    generator.describe(tmp_path / "contract.binpb", source_root=bare_root)
    files = list(descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "contract.binpb").read_bytes()).file)
    found = uncommented(files)
    assert found == [name for file in files for name, _ in elements(file)]
    assert {"Tensor", "Tensor.data", "DataType.DATA_TYPE_BOOL", "SequenceService.Step"} <= set(found)
    assert {"SessionStreamRequest.operation", "AdminService"} <= set(found)


def test_services_and_their_messages_are_named_by_one_style(
    contract: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    """Buf STANDARD: a request and a response of its own for each method, after its name."""
    services = [service for file in contract for service in file.service]
    assert {service.name for service in services} == SERVICES
    for method in (method for service in services for method in service.method):
        assert method.input_type == f".statewise.v1.{method.name}Request"
        assert method.output_type == f".statewise.v1.{method.name}Response"


def test_enums_and_fields_are_named_by_one_style(contract: list[descriptor_pb2.FileDescriptorProto]) -> None:
    for enum in (enum for file in contract for enum in file.enum_type):
        prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper()
        assert enum.value[0].name == f"{prefix}_UNSPECIFIED"
        assert all(value.name.startswith(f"{prefix}_") for value in enum.value)
    for message in (message for file in contract for message in file.message_type):
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", field.name) for field in message.field)


def test_files_belong_to_the_package_their_folder_names(
    contract: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    assert {file.package for file in contract} == {"statewise.v1"}
    assert {str(Path(file.name).parent) for file in contract} == {"statewise/v1"}
