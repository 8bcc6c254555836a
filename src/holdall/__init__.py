"""holdall keeps every version of code and data under the SHA-256 of its bytes."""

__version__ = "0.1.0"
