"""Trains networks by recipe: the loop over epochs, measuring, resuming; defines no task and no cell."""
