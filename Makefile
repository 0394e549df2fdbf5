# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1

.PHONY: demo test e2e results lint install clean

# torch goes first: what needs it afterwards then takes this build instead of fetching its own. A machine with
# an NVIDIA driver gets the newest build that fits; any other gets a version that has a CPU build.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	if command -v nvidia-smi >/dev/null 2>&1; then $(BIN)/python -m pip install --quiet "torch>=2.8,<3"; \
	else $(BIN)/python -m pip install --quiet torch==2.13.0; fi
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $(STAMP)

install: $(STAMP)

demo: $(STAMP)
	rm -rf demo
	@echo "== 1/2  NCCTG lung cancer: 228 real patients of 18 real institutions, clinical data"
	$(BIN)/mmfed-simulate cohort --source lung --out demo/lung
	$(BIN)/mmfed-simulate run demo/lung/study.toml --cohort demo/lung --out demo/lung-run
	@echo "== 2/2  a synthetic consortium of 10 sites with every modality"
	$(BIN)/mmfed-simulate cohort --out demo/synthetic
	$(BIN)/mmfed-simulate run demo/synthetic/study.toml --cohort demo/synthetic --out demo/synthetic-run --workers $(WORKERS)
	@echo "Reports: demo/lung-run/report.html and demo/synthetic-run/report.html"

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# The long forms: real processes over TLS with a hundred kills, and everything else that takes too long for `make test`.
# About two hours on two cores.
e2e: $(STAMP)
	$(BIN)/python -m pytest tests/e2e -m "e2e or not e2e" --timeout=7200
	$(BIN)/python -m pytest tests --ignore=tests/e2e -m e2e --timeout=7200

# The tables of docs/results that rest on public data, row by row; goes on where it was interrupted.
results: $(STAMP)
	$(BIN)/mmfed-simulate results --workers $(WORKERS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf demo $(VENV)
