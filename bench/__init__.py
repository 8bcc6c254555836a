"""Measures holdall beside its peers, in one run, and says by how much it is faster or slower.

Run as `python -m bench`; docs/benchmarks.md says how to read what it prints. Nothing in the package imports it, and it
imports nothing of the package: holdall is started by its command line, as every other server is.
"""
