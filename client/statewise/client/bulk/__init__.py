"""Scores whole data sets: reads samples from files and memory, batches them, reports progress."""
