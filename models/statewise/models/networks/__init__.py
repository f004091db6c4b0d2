"""Builds and runs networks: spec, parameters, layers, head, losses, units; never reads a recipe or a file."""

from statewise.models.networks._dropout import Dropout
from statewise.models.networks._initial import initial_values
from statewise.models.networks._losses import binary_cross_entropy, cross_entropy, squared_error
from statewise.models.networks._network import Network, NetworkTape, encoder_part
from statewise.models.networks._normalisation import Normalisation, Transform
from statewise.models.networks._parameters import Parameters
from statewise.models.networks._spec import ActivationName, CallShape, CellName, HeadName, NetworkSpec

__all__ = [
    "ActivationName",
    "CallShape",
    "CellName",
    "Dropout",
    "HeadName",
    "Network",
    "NetworkSpec",
    "NetworkTape",
    "Normalisation",
    "Parameters",
    "Transform",
    "binary_cross_entropy",
    "cross_entropy",
    "encoder_part",
    "initial_values",
    "squared_error",
]
