"""The program of the process that `UnitTests` starts: a response, and then its unit tests. Nothing imports it.

It reads the job from standard input. It reports to a pipe that it started and, after the tests, the token of the job.
"""

import json
import math
import os
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any


def main() -> None:
    """Run the job."""
    report = int(sys.argv.pop())
    os.set_inheritable(report, False)
    job = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    limit(job["seconds"], job["bytes"], job["file_bytes"])
    os.write(report, b"started ")
    response = run("response", job["response"], {})
    run("tests", job["tests"], response)
    os.write(report, job["token"].encode())
    with suppress(Exception):  # the response may have closed it
        sys.stdout.flush()
    os._exit(0)  # without exit handlers or threads that the response may have left


def run(name: str, source: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run source code with the given names as an importable module; return its names."""
    module = sys.modules[name] = ModuleType(name)
    module.__dict__.update(names | {"__name__": name})
    exec(compile(source, f"<{name}>", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def limit(seconds: float, memory: int, file_size: int) -> None:
    """Limit address space, CPU time, and the size of each file, where the system can."""
    try:
        import resource
    except ImportError:
        return
    limits = {"RLIMIT_AS": memory, "RLIMIT_CPU": math.ceil(seconds) + 1, "RLIMIT_FSIZE": file_size, "RLIMIT_CORE": 0}
    for name, value in limits.items():
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with suppress(ValueError, OSError):  # macOS does not allow setting RLIMIT_AS
            resource.setrlimit(kind, (lowest, lowest))


if __name__ == "__main__":
    main()
