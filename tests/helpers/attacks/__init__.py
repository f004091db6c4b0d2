"""Holds senders of wrong requests, and the bystander who must not notice them; holds no test."""
