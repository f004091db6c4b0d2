"""Compares updates with steps computed by hand, and clipping and schedules with their definitions."""

import numpy as np
import pytest

from statewise.models import SGD, AdamW, clip_by_norm, learning_rate_factor
from statewise.models.optimisation import ScheduleName


def test_sgd_with_momentum_by_hand() -> None:
    rule, p = SGD(momentum=0.5), np.array([1.0])
    state = rule.initial(p)
    rule.update(p, np.array([2.0]), state, learning_rate=0.1)
    assert p[0] == pytest.approx(1 - 0.1 * 2)
    rule.update(p, np.array([1.0]), state, learning_rate=0.1)
    assert p[0] == pytest.approx(0.8 - 0.1 * (0.5 * 2 + 1))


def test_adam_by_hand() -> None:
    rule = AdamW(beta1=0.9, beta2=0.99, epsilon=1e-8)
    p = np.array([1.0])
    state = rule.initial(p)
    rule.update(p, np.array([4.0]), state, learning_rate=0.1)
    # The first corrected mean is g and the first corrected square g^2: a step of the learning rate.
    assert p[0] == pytest.approx(0.9, abs=1e-9)
    rule.update(p, np.array([-2.0]), state, learning_rate=0.1)
    mean = (0.9 * 0.1 * 4 + 0.1 * -2) / (1 - 0.9**2)
    square = (0.99 * 0.01 * 16 + 0.01 * 4) / (1 - 0.99**2)
    assert p[0] == pytest.approx(0.9 - 0.1 * mean / np.sqrt(square), abs=1e-9)


def test_adamw_decays_apart_from_the_gradient_and_spares_what_is_masked() -> None:
    rule, p = AdamW(decay=0.5), np.array([2.0, 2.0])
    rule.update(p, np.zeros(2), rule.initial(p), learning_rate=0.1, decayed=np.array([1.0, 0.0]))
    np.testing.assert_allclose(p, [2 * (1 - 0.1 * 0.5), 2.0], rtol=1e-12)


def test_long_vectors_are_updated_to_the_last_number() -> None:
    rule, p = AdamW(), np.zeros(40_001, np.float32)
    rule.update(p, np.ones_like(p), rule.initial(p), learning_rate=0.25)
    np.testing.assert_allclose(p, -0.25, rtol=1e-6)


def test_clipping_keeps_the_direction() -> None:
    gradient = np.array([3.0, 4.0])
    assert clip_by_norm(gradient, 1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(gradient, [0.6, 0.8])
    assert clip_by_norm(gradient, 2.0) == pytest.approx(1.0)
    np.testing.assert_allclose(gradient, [0.6, 0.8])
    assert clip_by_norm(gradient, 0) == pytest.approx(1.0)


def test_schedules() -> None:
    def rates(name: ScheduleName, warmup: int = 0) -> list[float]:
        return [learning_rate_factor(name, step, 100, warmup=warmup) for step in range(100)]

    assert set(rates("constant")) == {1.0}
    assert rates("linear")[50] == pytest.approx(0.5)
    assert rates("cosine")[50] == pytest.approx(0.5)
    assert rates("cosine")[99] < 1e-3
    assert [rates("step")[step] for step in (59, 60, 84, 85)] == [1.0, 0.1, 0.1, 0.01]
    assert rates("cosine", warmup=4)[:4] == [0.25, 0.5, 0.75, 1.0]
