"""Reads what rows start from: states, conditions, prompts, sequences for encoders. Never runs a model."""

from statewise.service.dataplane.states._consumption import consumed_nothing, lack_a_start, unchanged_states
from statewise.service.dataplane.states._encoder_inputs import encoder_input
from statewise.service.dataplane.states._generation_inputs import GenerationInputs, GenerationStart
from statewise.service.dataplane.states._given_states import given_positions, given_states

__all__ = [
    "GenerationInputs",
    "GenerationStart",
    "consumed_nothing",
    "encoder_input",
    "given_positions",
    "given_states",
    "lack_a_start",
    "unchanged_states",
]
