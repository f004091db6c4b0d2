"""Stores trained networks in folders and reads them back; never trains."""
