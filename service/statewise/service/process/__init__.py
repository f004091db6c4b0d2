"""Adjusts the server's process: its event loop and its memory allocator. Never anything of models or sessions."""
