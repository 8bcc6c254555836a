"""The trees that are committed."""

from __future__ import annotations

import os
import shutil
import sysconfig

PACKAGES = ("aiohttp", "cryptography", "uvloop")
"""With the standard library about 139 MB in 2,700 files: Python, data, and compiled code."""

_CACHES = shutil.ignore_patterns("__pycache__", "*.pyc")
_NO_PACKAGES = shutil.ignore_patterns("__pycache__", "*.pyc", "site-packages")


def make_source(target: str) -> None:
    """A real source tree: Python's standard library and some of the packages installed beside this one.

    Args:
        target: Where to make it; does not exist.
    """
    paths = sysconfig.get_paths()
    shutil.copytree(paths["stdlib"], f"{target}/stdlib", symlinks=True, ignore=_NO_PACKAGES)
    for name in PACKAGES:
        shutil.copytree(f"{paths['platlib']}/{name}", f"{target}/site-packages/{name}", symlinks=True, ignore=_CACHES)


def make_small(target: str, count: int) -> None:
    """Many small files, 1,000 a directory.

    Args:
        target: Where to make them; does not exist.
        count: How many.
    """
    for number in range(count):
        folder = f"{target}/{number // 1000:04}"
        if not number % 1000:
            os.makedirs(folder)
        with open(f"{folder}/{number:06}.txt", "w", encoding="ascii") as file:
            file.write(f"{number} " * (number % 150))


def make_sparse(target: str, size_bytes: int) -> None:
    """One large file, most of it holes.

    Args:
        target: Where to make it; does not exist.
        size_bytes: Its length.
    """
    os.makedirs(target)
    step = size_bytes // 64
    with open(f"{target}/image", "wb") as file:
        file.truncate(size_bytes)
        for number in range(64):
            file.seek(number * step)
            file.write(os.urandom(4 << 20))


def edit(tree: str) -> None:
    """Changes one file of a tree: the one in the middle, so that nobody is lucky."""
    files = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(tree)
        for name in names
        if name.endswith((".py", ".txt")) and not os.path.islink(os.path.join(folder, name))
    )
    with open(files[len(files) // 2], "a", encoding="utf-8") as file:
        file.write("# edited\n")


def measure(tree: str) -> tuple[int, int]:
    """Entries and bytes of a tree."""
    entries = size = 0
    for folder, directories, names in os.walk(tree):
        entries += len(directories) + len(names)
        size += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
    return entries, size


def disk_bytes(folder: str) -> int:
    """The lengths of all files under a directory."""
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(folder) for name in names)
