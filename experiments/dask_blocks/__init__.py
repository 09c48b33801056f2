"""Rows in blocks of Dask: what they gain, and what they cost."""
