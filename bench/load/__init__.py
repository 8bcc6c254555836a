"""What sends requests and times them: wrk, redis-benchmark, and a bare-socket client for single large streams."""
