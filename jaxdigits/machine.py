"""What this machine gives to a process: cores, memory, room on disks, and folders for the caches.

Only looked at, never changed; judged as `doctor` tells it: a state, what was found, the cure.
"""

import os
import shutil
from pathlib import Path
from typing import Literal

from jaxdigits import cache, child
from jaxdigits.storage import cache_root

__all__ = [
    "State",
    "check_compile_cache",
    "check_cores",
    "check_data_cache",
    "check_disk",
    "check_memory",
    "enough",
    "folder_state",
]

State = Literal["ok", "warn", "bad"]

_DISK = (100e6, 1e9)  # bytes free: below the first nothing can be prepared, below the second it gets tight
_MEMORY = (0.5e9, 1.5e9)  # bytes available: a training with all it imports takes about 1 GB


def check_cores() -> tuple[State, str, str]:
    """How many cores this process may use, and what has been set about threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
    threads = "".join(f"; {name}={os.environ[name]}" for name in names if name in os.environ)
    return "ok", f"{child.cores()} of {os.cpu_count()} usable{threads}", ""


def check_memory() -> tuple[State, str, str]:
    """Whether there is memory for a training."""
    available, total = _memory()
    if available is None:
        return "ok", "not known on this system", ""
    found = f"{available / 1e9:.1f} GB available of {total / 1e9:.1f}"
    return enough(available, _MEMORY, found, "end other programs, or raise the limit of the container")


def _memory() -> tuple[float | None, float]:
    """Bytes of memory available and in all, within the limit of a Linux container."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {name: 1024 * float(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
        available, total = sizes["MemAvailable"], sizes["MemTotal"]
    except (OSError, KeyError, ValueError):
        return None, 0.0
    group = Path("/sys/fs/cgroup")
    try:
        limit = float((group / "memory.max").read_text())
        used = float((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or "max": no limit
        return available, total
    return min(available, limit - used), min(total, limit)


def enough(value: float, bounds: tuple[float, float], found: str, cure: str) -> tuple[State, str, str]:
    """Judges something of which there should be plenty."""
    least, comfortable = bounds
    if value >= comfortable:
        return "ok", found, ""
    return "bad" if value < least else "warn", found, cure


# Folders.


def check_disk() -> tuple[State, str, str]:
    """Whether there is room for the caches, and here for runs."""
    places = {"caches": _existing(cache_root()), "here": Path.cwd()}
    free = {name: shutil.disk_usage(place).free for name, place in places.items()}
    found = ", ".join(f"{name}: {size / 1e9:.1f} GB free" for name, size in free.items())
    if not os.access(places["here"], os.W_OK | os.X_OK):
        return "warn", f"{found}; this folder cannot be written", "give --run-dir, or go to another folder"
    return enough(min(free.values()), _DISK, found, "make room, or set JAXDIGITS_CACHE to another disk")


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(place for place in (path, *path.parents) if place.is_dir())


def check_data_cache() -> tuple[State, str, str]:
    """Whether the cache of data sets can be used, and what is in it is whole."""
    folder = cache_root() / "datasets"
    state, found, cure = folder_state(folder)
    if state != "ok" or not folder.is_dir():
        return state, found, cure
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    damaged = [name for name in names if not cache.intact(folder / name)]
    if damaged:
        return "warn", f"{found}; damaged: {', '.join(damaged)}", "nothing: they are made again when needed"
    return "ok", f"{found}; {', '.join(names) or 'empty'}, whole", ""


def check_compile_cache() -> tuple[State, str, str]:
    """Whether compiled programs can be kept."""
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = Path(chosen) if chosen else cache_root() / "xla"
    state, found, cure = folder_state(folder)
    if state == "ok" and folder.is_dir():
        found += f"; {sum(path.name.endswith('-cache') for path in folder.iterdir())} programs"
    trainings = cache_root() / "programs"  # as in `kept`
    if not trainings.is_dir():
        return state, found, cure
    state_there, found_there, cure_there = folder_state(trainings)
    count = sum(not path.name.startswith(".") for path in trainings.iterdir())
    found += f"; {found_there}; programs of {count} training{'s' if count != 1 else ''}"
    return (state, found, cure) if state != "ok" else (state_there, found, cure_there)


def folder_state(folder: Path) -> tuple[State, str, str]:
    """Whether a folder of a cache is, or can be made, one that this user alone may write to."""
    if not os.path.lexists(folder):
        above = _existing(folder)
        if os.access(above, os.W_OK | os.X_OK):
            return "ok", f"{folder}: not there yet", ""
        return "bad", f"{folder}: cannot be made", f"make {above} writable, or set JAXDIGITS_CACHE"
    if not folder.is_dir():
        return "bad", f"{folder}: no folder", "remove it, or set JAXDIGITS_CACHE"
    status, cure = folder.stat(), "set JAXDIGITS_CACHE to a folder of your own"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    found = f"{folder}: {size / 1e6:.1f} MB, mode {status.st_mode & 0o777:04o}"
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return "bad", f"{found}, of another user", cure
    if hasattr(os, "getuid") and status.st_mode & 0o022:
        return "bad", f"{found}: others may write to it", f"chmod 700 {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "bad", f"{found}, not writable", cure
    return "ok", found, ""
