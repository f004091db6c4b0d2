"""Reads recipes, the TOML files that say what to train and how; the bundled ones lie here; runs nothing."""
