"""Runs functions in child processes with limits of time and memory; knows neither ONNX nor packages."""

from statewise.export.isolation._child_process import ChildDied, run_isolated

__all__ = ["ChildDied", "run_isolated"]
