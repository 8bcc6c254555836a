"""Backing a source tree up, and restoring it, beside the programs that do the same; see docs/benchmarks.md."""
