"""Reads version folders: metadata, model.toml, digest. Never loads a graph for serving."""

from statewise.service.packages._package import ServablePackage, check_graph, read_package
from statewise.service.packages._small_files import read_text

__all__ = ["ServablePackage", "check_graph", "read_package", "read_text"]
