"""One measurement of one server: started, checked, loaded, looked at, ended.

Before any rate counts, a body is put and read back; after PUTs every acknowledged one must have left a file. So a
server that answers quickly without doing the work fails its row.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench import blobs
from bench.load import redis, stream, wrk
from bench.measure import Sample
from bench.process import BenchError

if TYPE_CHECKING:
    from bench.ground import Ground
    from bench.measure import Workload
    from bench.options import Options
    from bench.peers.base import Endpoint, Peer, Place

STREAM_READS: Final = 5
"""A large GET takes a tenth of a second, so each round reads a few times."""
MIXED_CONNECTIONS: Final = 64


@dataclass(frozen=True)
class WorkingSet:
    """What a server is asked for in reads.

    Args:
        place: Its directories.
        paths: Of the blobs, on the wire; for redis only their number counts.
    """

    place: Place
    paths: list[str]


def put(workload: Workload, peer: Peer, ground: Ground, seconds: float) -> Sample:
    """PUTs of small bodies on an empty directory, since they leave many files.

    Args:
        workload: Size and connections.
        peer: Who is asked.
        ground: Where.
        seconds: How long.

    Raises:
        BenchError: The server does not start, does not do the job, or did not keep what it acknowledged.
    """
    size_bytes, connections = workload.size_bytes, workload.connections
    with ground.place(peer.name) as place:
        with peer.running(place) as endpoint:
            if peer.speaks == "redis":
                spread = redis.Spread(size_bytes, redis.keys_for(size_bytes))
                return _with_memory(redis.run(endpoint, "set", spread, connections, seconds), endpoint)
            blobs.check_service(endpoint, peer.put_style, size_bytes)
            result = wrk.put(endpoint, peer.put_style, wrk.Load(size_bytes, connections, seconds))
            sample = _with_memory(result.sample, endpoint)
        if peer.owned:
            _check_kept(place, result.requests)
    return sample


def fill(peer: Peer, place: Place, count: int, size_bytes: int) -> WorkingSet:
    """Gives a server something to be read from.

    Args:
        peer: The server, not running.
        place: Its directories, empty.
        count: Of blobs.
        size_bytes: Of each.

    Raises:
        BenchError: A server of somebody else's does not take them.
    """
    if peer.speaks == "redis":
        return WorkingSet(place, [""] * count)
    if peer.owned:
        return WorkingSet(place, blobs.fill_files(place.data, count, size_bytes))
    with peer.running(place) as endpoint:
        return WorkingSet(place, blobs.fill_by_put(endpoint, count, size_bytes))


def get(workload: Workload, peer: Peer, working_set: WorkingSet, seconds: float) -> Sample:
    """GETs of small bodies.

    Args:
        workload: Size and connections.
        peer: Who is asked.
        working_set: For what.
        seconds: How long.

    Raises:
        BenchError: The server does not start or does not do the job.
    """
    size_bytes, connections = workload.size_bytes, workload.connections
    with peer.running(working_set.place) as endpoint:
        if peer.speaks == "redis":
            spread = redis.Spread(size_bytes, len(working_set.paths))
            blobs.fill_redis(endpoint, spread.keys, size_bytes)
            sample = redis.run(endpoint, "get", spread, connections, seconds)
        else:
            blobs.check_service(endpoint, peer.put_style, size_bytes)
            load = wrk.Load(size_bytes, connections, seconds)
            sample = wrk.get(endpoint, working_set.paths, load, f"{working_set.place.run}/paths")
        return _with_memory(sample, endpoint)


def one_stream(peer: Peer, ground: Ground, source: str, digest: str) -> tuple[Sample, Sample]:
    """One large PUT and GETs of what it stored.

    Args:
        peer: Who is asked.
        ground: Where.
        source: The file to send.
        digest: Its SHA-256 in hex.

    Returns:
        The samples of the PUT and of the GETs.

    Raises:
        BenchError: The server does not start or does not do the job.
    """
    with ground.place(peer.name) as place, peer.running(place) as endpoint:
        put_rate, get_rate = _there_and_back(endpoint, peer, source, digest)
        return _with_memory(Sample(rate=put_rate), endpoint), _with_memory(Sample(rate=get_rate), endpoint)


def mixed(peer: Peer, ground: Ground, options: Options) -> Sample:
    """A bit of everything in one server's life, for the memory that it takes over it.

    Args:
        peer: Who is asked.
        ground: Where.
        options: Sizes and lengths.

    Raises:
        BenchError: The server does not start or does not do the job.
    """
    errors = 0
    with ground.place(peer.name) as place:
        sizes = options.sizes_bytes
        sets = {size: blobs.fill_files(place.data, options.disk_files(size), size) for size in sizes}
        source = f"{place.run}/source"
        stream.write_source(source, options.stream_bytes)
        with peer.running(place) as endpoint:
            for size, paths in sets.items():
                load = wrk.Load(size, MIXED_CONNECTIONS, options.seconds)
                errors += wrk.put(endpoint, peer.put_style, load).sample.errors
                errors += wrk.get(endpoint, paths, load, f"{place.run}/paths").errors
            _there_and_back(endpoint, peer, source, stream.hash_source(source)[0])
            return _with_memory(Sample(rate=None, errors=errors), endpoint)


def _there_and_back(endpoint: Endpoint, peer: Peer, source: str, digest: str) -> tuple[float, float]:
    """Rates in bytes a second of one PUT of the source and of GETs of what it stored."""
    target = blobs.put_path(peer.put_style, digest[:32], 0)
    put_rate, answer = stream.put(endpoint, target, source)
    path = target if peer.put_style == "unique" else answer.strip()
    if peer.put_style == "root" and path != f"/{digest}.tig":
        raise BenchError(f"PUT / was answered {path[:80]!r}, not the path of the body's SHA-256")
    size_bytes = os.path.getsize(source)
    rates = sorted(stream.get(endpoint, path, size_bytes) for _ in range(STREAM_READS))
    return put_rate, rates[STREAM_READS // 2]


def _with_memory(sample: Sample, endpoint: Endpoint) -> Sample:
    server = endpoint.server
    return dataclasses.replace(sample, resident_bytes=server.resident_bytes_max()) if server else sample


def _check_kept(place: Place, requests: int) -> None:
    with os.scandir(place.data) as entries:
        kept = sum(entry.name.endswith(".tig") for entry in entries)
    if kept < requests:
        raise BenchError(f"{requests} bodies were acknowledged and {kept} are there")
