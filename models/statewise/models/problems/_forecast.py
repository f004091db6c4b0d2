"""Forecasts the next step of a series from all steps so far: gait, sunspots, and a user's recording.

The forecast is one step ahead. Training cuts the series into parallel streams and reads them window by window
with the state carried on (truncated BPTT). Evaluation runs the whole series once, from its start, and
measures the part that was not trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from statewise.models.base import Floats
from statewise.models.datasets import Series
from statewise.models.networks import Network, NetworkSpec, Normalisation
from statewise.models.problems._problem import Batch, Part, Problem, validation_count
from statewise.models.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Forecast(Problem):
    """A series and its split into parts, streams and windows.

    Attributes:
        values: [T, I], raw units, all parts.
        train_end: Steps before it are trained on.
        ranges: The first step to forecast in each part, and the last + 1.
        batch_size: Parallel streams.
        window: Steps of a batch.
        input_noise: Standard deviation of the noise on inputs, in normalised units.
        amplitude: Streams are scaled by exp(U(-amplitude, amplitude)); 0 for no scaling.
        raw_units: Whether errors are measured in raw instead of standardised units.
    """

    values: Floats
    train_end: int
    ranges: Mapping[Part, tuple[int, int]]
    batch_size: int
    window: int
    input_noise: float
    amplitude: float
    raw_units: bool

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Streams that start at a random step, window by window."""
        steps = self.batch_count * self.window
        spare = self.train_end - 1 - steps * self.batch_size
        first = int(rng.integers(spare + 1)) + steps * np.arange(self.batch_size)
        streams = self.values[first + np.arange(steps + 1)[:, None]]  # [steps + 1, B, I]
        if self.amplitude:
            scale = np.exp(rng.uniform(-self.amplitude, self.amplitude, (1, self.batch_size, 1)))
            streams = streams * scale.astype(np.float32)
        streams = self.normalisation.inputs(streams)
        for start in range(0, steps, self.window):
            x = streams[start : start + self.window]
            if self.input_noise:
                x = x + self.input_noise * rng.standard_normal(x.shape, dtype=np.float32)
            yield Batch(x=x, targets=streams[start + 1 : start + 1 + self.window], continues=start > 0)

    def evaluate(self, network: Network, part: Part) -> Mapping[str, float]:
        """Computes the root mean square error of the next step, and that of repeating the last value."""
        start, end = self.ranges[part]
        x = self.normalisation.inputs(self.values[: end - 1, None])
        y = network.run(x)[0][:, 0]
        wanted, last = self.normalisation.inputs(self.values[1:end]), x[:, 0]
        loss = 0.5 * _rms(y[start - 1 :] - wanted[start - 1 :]) ** 2
        if self.raw_units:
            y, wanted, last = self.normalisation.outputs(y), self.values[1:end], self.values[: end - 1]
        return {
            "rmse": _rms(y[start - 1 :] - wanted[start - 1 :]),
            "baseline_rmse": _rms(last[start - 1 :] - wanted[start - 1 :]),
            "loss": loss,
        }


def forecast(recipe: Recipe, data: Series) -> Forecast:
    """Builds the problem of a recipe with `task = "forecast"`.

    Raises:
        RecipeError: The settings do not fit the data.
    """
    settings, train = recipe.network, recipe.train
    if settings.bidirectional:
        raise recipe.error("network.bidirectional", "expected false, a forecast must not read ahead")
    if settings.call_shape not in ("auto", "many_to_many"):
        raise recipe.error("network.call_shape", "expected many_to_many for a forecast")
    if settings.head not in ("auto", "linear"):
        raise recipe.error("network.head", "expected linear for a forecast")
    T, channels = data.values.shape
    train_end = data.split - validation_count(recipe, data.split, "steps")
    batch_count = _batch_count(recipe, train_end)
    ranges: dict[Part, tuple[int, int]] = {}
    if train_end < data.split:
        ranges["validation"] = (train_end, data.split)
    if data.split < T:
        ranges["test"] = (data.split, T)
    return Forecast(
        spec=NetworkSpec(
            input_size=channels,
            output_size=channels,
            cell=settings.cell,
            hidden_size=settings.hidden_size,
            layers=settings.layers,
            activation=settings.activation,
            reset_after=settings.reset_after,
            learn_initial_state=settings.learn_initial_state,
            residual=settings.residual,
        ),
        normalisation=Normalisation.of_series(data.values[:train_end], transform=recipe.data.transform),
        labels=data.channels,
        batch_count=batch_count,
        has_validation="validation" in ranges,
        has_test="test" in ranges,
        values=data.values,
        train_end=train_end,
        ranges=ranges,
        batch_size=train.batch_size,
        window=train.window,
        input_noise=train.input_noise,
        amplitude=train.amplitude,
        raw_units=recipe.data.units == "raw",
    )


def _batch_count(recipe: Recipe, steps: int) -> int:
    """Counts the batches of an epoch over a series of so many steps.

    Raises:
        RecipeError: The series is too short for one batch.
    """
    train = recipe.train
    longest = (steps - 1) // train.batch_size  # the last step has no next one to forecast
    if longest < 1:
        raise recipe.error(
            "train.batch_size", f"expected at most {steps - 1}: the series has {steps} steps to train on"
        )
    if longest < train.window:
        raise recipe.error(
            "train.window",
            f"expected at most {longest}: the series has {steps} steps to train on, cut into "
            f"{train.batch_size} parallel streams (train.batch_size)",
        )
    return longest // train.window


def _rms(difference: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))
