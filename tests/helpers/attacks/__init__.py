"""Holds what sends wrong requests to a server, and the bystander who must not notice them."""
