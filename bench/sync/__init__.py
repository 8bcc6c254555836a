"""One folder on three hosts, beside lsyncd, unison, rsync and git; see docs/benchmarks.md."""
