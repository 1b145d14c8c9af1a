"""Processes that prepare a data set."""

import os
import subprocess
import sys
from pathlib import Path

# Makes a process in which TensorFlow and importlib_resources seem installed, and importing either fails.
GUARD = """
import importlib.machinery, sys
tried = []
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "importlib_resources"):
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        tried.append(spec.name)
        raise ImportError(spec.name)
    def exec_module(self, module):
        raise AssertionError
sys.meta_path.insert(0, Guard())
"""
PREPARE = (
    "import jaxdigits.dataset as d; x = d.load('mnist'); print(x.train.images.shape, x.test.labels.sum())"
)


def start(code: str, cache: Path) -> subprocess.Popen:
    environment = {**os.environ, "JAXDIGITS_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
