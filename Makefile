# make train           the main job; flags in ARGS="--epochs 3"
# make test            ruff, pyright and the tests; ARGS="-m slow" for those that take long
# make setup           .venv with the package, and nothing else; EXTRAS=cuda13 for a GPU
# make lint            ruff and pyright alone
# make bench           the benchmarks, in their short form
#
# PYTHON=python3.13 chooses the interpreter. Without it: the newest one on the PATH that runs, can make
# a virtual environment, and has wheels of jaxlib. (A version manager's shim may be there and not run.)

ARGS ?=
EXTRAS ?=
VENV := .venv
BIN := $(VENV)/bin

find_python = set -f; IFS=:; for name in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	for folder in $$PATH; do \
		if "$$folder/$$name" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
			>/dev/null 2>&1; then echo "$$folder/$$name"; exit; fi; done; done

.PHONY: setup train test lint bench clean FORCE
.DELETE_ON_ERROR:

train: setup
	@$(BIN)/python train.py $(ARGS)

setup: $(VENV)/installed

# Hundreds of processes are started, and each would compile this library again.
test: $(VENV)/installed-test lint
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: setup
	@$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV)

# Made anew when another interpreter is asked for by name.
$(VENV)/python: FORCE
	@python="$(PYTHON)"; \
	if [ -z "$$python" ] && [ -x $(BIN)/python ] && $(BIN)/python -c '' 2>/dev/null; then exit 0; fi; \
	if [ -z "$$python" ]; then python=$$($(find_python)); fi; \
	if [ -z "$$python" ]; then echo "make: no Python from 3.11 to 3.14 with venv on the PATH; set PYTHON=" >&2; exit 1; fi; \
	version=$$("$$python" -c 'import sys; print(sys.version)') || \
		{ echo "make: $$python does not run; set PYTHON= to one from 3.11 to 3.14" >&2; exit 1; }; \
	if [ "$$version" != "$$(cat $@ 2>/dev/null)" ]; then \
		"$$python" -m venv --clear $(VENV) && printf '%s\n' "$$version" >$@; fi

# Changes when other extras are asked for than are there.
$(VENV)/extras: $(VENV)/python FORCE
	@[ -z "$(EXTRAS)" ] || [ "$(EXTRAS)" = "$$(cat $@ 2>/dev/null)" ] || echo "$(EXTRAS)" >$@
	@[ -e $@ ] || touch $@

$(VENV)/installed: pyproject.toml $(VENV)/python $(VENV)/extras
	@echo "Installing jaxdigits into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".$(if $(EXTRAS),[$(EXTRAS)])"
	@touch $@

$(VENV)/installed-test: pyproject.toml $(VENV)/python $(VENV)/extras
	@echo "Installing jaxdigits with its tests' needs into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test$(if $(EXTRAS),$(comma)$(EXTRAS))]"
	@touch $@ $(VENV)/installed

comma := ,
