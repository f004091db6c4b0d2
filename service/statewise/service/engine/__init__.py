"""Runs ONNX graphs: from inputs and states to outputs and new states. Never sessions, asyncio or gRPC."""
