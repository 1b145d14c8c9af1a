"""What JAX's distributed runtime writes to the terminal, told in a line a person can use.

When a process of a training is lost, the runtime ends the others from within, with a page of log lines and
addresses that no Python code gets to see. So what native code writes runs through a filter, a small
process of its own that outlives what it listens to:

    jaxdigits.runtime_log < log > told
"""

import re
import signal
import sys
from collections.abc import Iterable, Iterator

__all__ = ["main", "told"]

_CHATTER = re.compile(
    r"[IWE]\d{4} [\d:.]+ +\d+ (coordination_service|client|distributed|add_port)\w*\.(cc|h):\d+\] "
)
_FATAL = re.compile(r"F\d{4} [\d:.]+ +\d+ [\w./]+:\d+\] (.*)")
_LOG = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ [\w./]+:\d+\] ")
_CONTINUED = re.compile(
    r"^$|^RPC: |^Original error: |^\*\*\* Check failure|^    @ |^The tasks have crashed|^This is u"
)


def told(lines: Iterable[str], patience: str, heartbeat: str) -> Iterator[str]:
    """The lines as they are, but for those of the distributed runtime: of them, only why it ends the process.

    Where this library has said why itself, that is enough.

    Args:
      lines: of a log, without their ends.
      patience: how many seconds the runtime waits for processes to come.
      heartbeat: for how many it does without a sign of life.
    """
    dropping, ended, said, unhealthy, reason = False, False, False, "", ""
    for line in lines:
        if match := _FATAL.match(line):
            ended, dropping, reason = True, True, reason or match[1]
        elif _CHATTER.match(line):
            dropping = True
            reason = reason or (line if "Polled" not in line else "")
        elif line.startswith("[Gloo] Rank "):
            pass
        elif dropping and not _LOG.match(line) and (re.fullmatch(r"[\d, ]+", line) or _CONTINUED.match(line)):
            unhealthy = unhealthy or (line if line.strip(", ").isdigit() else "")
            reason += f" {line}" if "RegisterTask" in line else ""
        else:
            dropping, said = False, said or line.startswith("jaxdigits: ")
            yield line
    if ended and not said:
        yield f"jaxdigits: {_cause(reason, unhealthy.strip(', '), patience, heartbeat)}"


def _cause(reason: str, process: str, patience: str, heartbeat: str) -> str:
    """Why the runtime ended the process, from what it said."""
    if "incarnation" in reason or "ALREADY_EXISTS" in reason:
        return "two processes have the same --process-id, or one was started again; give each its own, from 0"
    if "RegisterTask" in reason:
        return (
            f"not all of --processes came together within {patience} s; start each, with its own --process-id"
        )
    if "unhealthy" in reason or process:
        who = f"process {process}" if process else "another process"
        return f"{who} of this training has given no sign of life within {heartbeat} s; ended"
    if "UNAVAILABLE" in reason or "PollForError" in reason:
        return "the coordinator, process 0 of this training, is gone; ended"
    return f"JAX's distributed runtime has ended this process: {reason}"


def main() -> None:
    """Reads a log on standard input until its writer ends, and tells it on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever writes ends this, by ending
    sys.stdin.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    for line in told((line.rstrip("\n") for line in sys.stdin), *sys.argv[1:3]):
        print(line, flush=True)


if __name__ == "__main__":
    main()
