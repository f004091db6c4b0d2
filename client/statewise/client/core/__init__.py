"""Plans everything that a client does, for both shells; performs no input or output."""
