"""Compares the reasons with the contract."""

from pathlib import Path

from statewise.wire import Reason

TENSOR_PROTO = Path(__file__).parents[2] / "proto/statewise/v1/tensor.proto"


def test_a_reason_travels_under_its_own_name() -> None:
    assert all(reason.name == reason.value for reason in Reason)


def test_reasons_of_row_errors_in_the_contract_exist() -> None:
    comment = (
        TENSOR_PROTO.read_text()
        .split("the same vocabulary as ErrorInfo.reason:")[1]
        .split("string reason")[0]
    )
    listed = {word.strip(" /\n.") for word in comment.replace("//", "").split(",")}
    assert listed
    assert listed <= set(Reason)
