"""Holds `statewise plot`: reads checkpoints and sequences, and draws figures from them.

Never holds measurements: `statewise.models.effects` computes the numbers.
"""

from statewise.cli._plot._command import app
from statewise.cli._plot._pictures import draw_curves, draw_gates, draw_gradients

__all__ = ["app", "draw_curves", "draw_gates", "draw_gradients"]
