"""How the library is put together: read from its source, not from its documentation."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxdigits
from tests.conftest import Python

PACKAGE = Path(jaxdigits.__file__).parent
MODULES = {path.stem: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.glob("*.py"))}
EACH = pytest.mark.parametrize("module", MODULES)

# Each module imports only from rows above its own.
LAYERS = (
    {"errors", "child", "processor", "clock", "interrupts", "saver", "progress"},
    {"storage", "fields", "decode", "lock", "runtime_log", "distributed"},
    {"rows", "idx", "layers", "winograd", "network", "device", "muon", "config"},
    {"columns", "rowwise"},
    {"blocks"},
    {"network_forms"},
    {"presets", "model", "augment", "hands", "morphology", "sources", "cache", "plots", "strip"}
    | {"nondigits", "rejection", "gpu"},
    {"records", "optimizer", "step", "checkpoint", "whitening", "paper", "layout", "predictions"}
    | {"resume", "snapshot", "machine", "form", "mesh", "plotter"},
    {"names", "flags"},
    {"dataset", "ink", "grey", "joint_snapshot"},
    {"last_snapshot", "executor", "evaluate", "image", "splits", "candidates", "page", "preparer"},
    {"worker"},
    {"loader"},
    {"runs", "recognizer", "profiling", "compiling"},
    {"kept"},
    {"programs"},
    {"loop", "reading", "ensemble", "many"},
    {"training"},
    {"report", "prediction_report", "doctor"},
    {"__init__"},
    {"__main__"},
    {"console"},
)
SLOW = {"tensorflow_datasets", "matplotlib", "PIL", "orbax"}


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a tree imports, in full: `jaxdigits.config` for `from jaxdigits import config`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import"
            for alias in node.names:
                inner = node.module == "jaxdigits" and alias.name in MODULES
                yield f"jaxdigits.{alias.name}" if inner else str(node.module)


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """The modules that are imported as soon as this one is: those not within a function."""
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)
        else:
            waiting += ast.iter_child_nodes(node)


def test_every_module_has_its_layer():
    rows = [module for layer in LAYERS for module in layer]
    assert sorted(rows) == sorted(MODULES)
    assert not {"utils", "util", "common", "helpers", "misc"} & MODULES.keys()


@EACH
def test_imports_point_one_way(module: str):
    row = next(row for row, layer in enumerate(LAYERS) if module in layer)
    above = set().union(*LAYERS[:row])
    ours = {name for name in imports(MODULES[module]) if name.split(".")[0] == "jaxdigits"}
    assert {name.removeprefix("jaxdigits.") for name in ours} <= above


@EACH
def test_tensorflow_is_not_imported(module: str):
    roots = {name.split(".")[0] for name in imports(MODULES[module])}
    assert not roots & {"tensorflow", "torch", "keras"}


@EACH
def test_slow_imports_wait_until_they_are_needed(module: str):
    assert not SLOW & {name.split(".")[0] for name in imported_at_once(MODULES[module])}


@EACH
def test_nothing_that_is_read_is_executed(module: str):
    tree = MODULES[module]
    roots = {name.split(".")[0] for name in imports(tree)}
    assert not roots & {"pickle", "dill", "marshal", "shelve", "joblib"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "compile", "os.system", "os.popen"), f"line {node.lineno}"
            for keyword in node.keywords:
                assert keyword.arg not in ("allow_pickle", "shell"), f"line {node.lineno}"


@EACH
def test_what_is_public_is_listed_and_there(module: str):
    tree = MODULES[module]
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert len(listed) == 1
    if module != "__init__":  # whose names come when they are asked for
        names = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name)}
        names |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert set(listed[0]) <= names


def loaded_by(python: Python, statement: str) -> set[str]:
    """The top-level modules that a fresh process has loaded after a statement."""
    tell = "import json, sys; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    done = python("-c", f"{statement}\n{tell}")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_the_library_costs_next_to_nothing(python: Python):
    loaded = loaded_by(python, "import jaxdigits")
    assert "jaxdigits" in loaded
    heavy = {"jax", "jaxlib", "flax", "optax", "numpy", "rich", "tyro", "safetensors", "tensorflow"}
    assert not loaded & (heavy | SLOW)


def test_the_training_imports_what_it_computes_with_and_no_more(python: Python):
    loaded = loaded_by(python, "import jaxdigits.training")
    needed = loaded_by(python, "import jax, flax.nnx, optax")  # Flax brings rich with it
    assert not loaded & (SLOW | {"tensorflow"})
    assert not (loaded - needed) & {"rich", "tyro", "safetensors"}


def test_flags_are_read_without_what_tyro_seldom_needs(python: Python):
    reading = "kind, words = flags.TrainArguments, '--channels 8 16 --devices 2 --max-seconds 1'.split()"
    reading += "; flags.parse(kind, words, 'train', flags.defaults(words))"
    reading += "; flags.parse(flags.PredictArguments, ['a.png', 'b.png', '--top', '2'], 'predict', None)"
    loaded = loaded_by(python, f"from jaxdigits import flags; {reading}")
    assert "tyro" in loaded
    assert not loaded & {"typeguard", "asyncio", "numpy"}  # in Python modules, and 60 ms


def test_every_name_that_the_library_offers_is_there():
    for name in jaxdigits.__all__:
        assert getattr(jaxdigits, name) is not None
        assert name in dir(jaxdigits)
    with pytest.raises(AttributeError, match="nonsense"):
        jaxdigits.nonsense  # noqa: B018
