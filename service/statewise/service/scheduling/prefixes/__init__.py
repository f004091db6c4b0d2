"""Keeps states behind beginnings that several sequences share. Knows no sessions, scheduling or gRPC."""

from statewise.service.scheduling.prefixes._chunk_claims import ChunkClaims, Claim
from statewise.service.scheduling.prefixes._prefix_budget import PrefixBudget
from statewise.service.scheduling.prefixes._prefix_node import PrefixNode, Reached
from statewise.service.scheduling.prefixes._prefix_tree import PrefixTree
from statewise.service.scheduling.prefixes._row_hash import RowHash

__all__ = [
    "ChunkClaims",
    "Claim",
    "PrefixBudget",
    "PrefixNode",
    "PrefixTree",
    "Reached",
    "RowHash",
]
