"""Passes arguments of wrong types: each is InvalidInput, in words that name it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statewise.client import Client, InvalidInput

X = np.zeros((2, 3), np.float32)


class Tensor:
    """Behaves like a tensor that needs gradients."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy()")


CALLS: dict[str, tuple[Callable[[Any], object], str]] = {
    "text as version": (lambda c: c.predict("steps", X, version="1"), "a version of 0 to"),
    "negative version": (lambda c: c.session("steps", version=-1).step(X), "a version of 0 to"),
    "flag as version": (lambda c: c.model("steps", version=True), "a version of 0 to"),
    "version of a group": (lambda c: c.sessions("steps", count=1, version=2**40).step(X), "a version"),
    "number as model": (lambda c: c.predict(5, X), "a model's name as a text"),
    "number as a listed model": (lambda c: c.list_sessions(model=5), "a model's name"),
    "lone surrogate as model": (lambda c: c.model("\ud800"), "whole characters"),
    "number as id": (lambda c: c.session("steps", id=5).step(X), "a session's id as a text"),
    "bytes as id": (lambda c: c.session("steps", id=b"a").step(X), "a session's id as a text"),
    "number to resume": (lambda c: c.resume(5).step(X), "a session's id as a text"),
    "bytes as ids": (lambda c: c.sessions("steps", ids=[b"a"]).step(X[:1]), "a session's id as a text"),
    "text as token": (lambda c: c.restore("token").step(X), "the bytes that snapshot"),
    "text as timeout": (lambda c: c.predict("steps", X, timeout="1"), "a timeout of more than 0 s"),
    "huge timeout": (lambda c: c.predict("steps", X, timeout=1e300), "a timeout of more than 0 s"),
    "NaN as timeout": (lambda c: c.predict("steps", X, timeout=float("nan")), "a timeout of more than 0 s"),
    "text as temperature": (lambda c: list(c.generate("steps", temperature="hot")), "a temperature"),
    "half a step": (lambda c: list(c.generate("steps", steps=1.5)), "steps of at least 1"),
    "text as seed": (lambda c: list(c.generate("steps", seed="7")), "a seed of 0 to"),
    "flag as top_k": (lambda c: list(c.generate("steps", top_k=True)), "a top_k, or None, of at least 1"),
    "tensor with gradients": (lambda c: c.predict("steps", Tensor()), "requires grad"),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_argument_of_a_wrong_type_is_invalid_input(client: Client, name: str) -> None:
    call, words = CALLS[name]
    with pytest.raises(InvalidInput, match=words):
        call(client)
