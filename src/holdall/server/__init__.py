"""The HTTP server: one connection class over httptools, and what answers its requests."""
