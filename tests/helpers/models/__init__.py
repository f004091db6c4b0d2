"""Holds writers of model repositories, each model with an oracle; holds nothing that talks to a server."""
