"""Blobs by time in git, beside the package whose repositories holdall.timeline reads; see docs/benchmarks.md."""
