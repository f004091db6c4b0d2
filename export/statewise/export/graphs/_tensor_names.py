"""Names the inputs and outputs of the graphs, which runners and readers of packages rely on."""

INPUT, LENGTHS, STATE = "x", "lengths", "state"
OUTPUT, STATE_OUT = "y", "state_out"
REMAINING, EMITTED = "remaining", "emitted"
NOISE, TEMPERATURE, TOP_K, STOP = "noise", "temperature", "top_k", "stop"


def layer_name(layer: int, part: str = "") -> str:
    """Names a layer's node, or with a part its constants, by which a checkpoint is recovered.

    The parts are W, R and B, and h and c for the initial memories of graphs without a state.
    """
    return f"layer{layer}.{part}" if part else f"layer{layer}"
