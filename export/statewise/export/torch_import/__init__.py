"""Turns PyTorch's weights into a checkpoint of statewise.models; knows no ONNX and never needs PyTorch."""

from statewise.export.torch_import._torch_checkpoint import read_torch

__all__ = ["read_torch"]
