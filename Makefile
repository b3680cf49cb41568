# Builds, runs and checks Tulle. Needs Python ≥ 3.11, cargo, npm and make; everything else is fetched, pinned.
# `make demo` shows the mesh; `make test` runs all tests; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .tulle/build
PROXY := packages/tulle-proxy
# One Cargo profile for building, testing and linting: the dependencies are compiled once.
CARGO_PROFILE ?= fast
CARGO := cargo
CARGO_FLAGS := --locked --profile $(CARGO_PROFILE) --manifest-path $(PROXY)/Cargo.toml
# What `make build` compiles of the proxy. With `--workspace --bins --tests` the program and the tests share one set of
# features, so that nothing is compiled once for each: what CI wants, which builds both.
PROXY_TARGETS ?= --bin tulle-proxy
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One more than there are processors: many tests wait for processes and timers.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2); echo $$((n + 1)))
SAMPLE_LOCKS := $(wildcard samples/*/package-lock.json samples/*/*/package-lock.json)

export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.PHONY: help demo build python protos proxy samples dev test test-python test-again test-rust check fuzz golden bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## start the sample app as a mesh and watch it; ONCE=1 verifies one tour and exits
	bin/tulle demo $(if $(filter 1,$(ONCE)),--once)

build: python proxy samples ## build everything

python: $(STAMPS)/run
dev: $(STAMPS)/dev
samples: $(SAMPLE_LOCKS:%/package-lock.json=%/node_modules/.package-lock.json)

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}; say PYTHON=... to choose another")'
	@echo "== creating $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: requirements/run.txt packages/tulle/pyproject.toml $(STAMPS)/venv
	@echo "== installing the Python packages"
	$(PIP) install --quiet --require-hashes -r requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable packages/tulle
	@touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/run
	@echo "== installing what the tests and checks need"
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

protos: python ## extract Envoy's messages again from the pinned xds-protos wheel (the result is committed)
	$(BIN)/python packages/tulle/tools/build_protos.py

proxy:
	@echo "== building the proxy (the first time takes some minutes)"
	$(CARGO) build $(CARGO_FLAGS) $(PROXY_TARGETS)

%/node_modules/.package-lock.json: %/package-lock.json
	@echo "== installing $*'s packages"
	npm ci --no-audit --no-fund --prefix $*
	@touch $@

test: build dev test-rust test-python ## install what the tests need and run all of them

test-rust:
	$(CARGO) test $(CARGO_FLAGS) --workspace

# Go is not needed for anything else; without it the conformance test of HTTP/2 says that it was left out.
$(STAMPS)/bin/h2spec: tools/h2spec/go.mod tools/h2spec/go.sum
	@if command -v go >/dev/null; then \
	    echo "== building h2spec" && cd tools/h2spec && go build -mod=readonly -o ../../$@ github.com/summerwind/h2spec/cmd/h2spec; \
	else echo "== Go is not installed: HTTP/2 conformance (h2spec) will not be tested" >&2; fi

test-python: build dev $(STAMPS)/bin/h2spec
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests || { test $$? = 1 && $(MAKE) --no-print-directory test-again; }

# What fails twice is broken; what fails in the crowd only is named, and is to be mended as well.
test-again: # runs what failed last once more, one by one and on an idle machine
	@echo "== these failed beside others; once more, each alone" >&2
	$(BIN)/python -m pytest -n 0 --last-failed --last-failed-no-failures none tests

check: dev ## linters, types, import and dependency directions, file sizes
	$(BIN)/ruff check .
	$(BIN)/mypy --config-file pyproject.toml
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/check_sizes.py
	$(BIN)/python tools/check_crates.py $(PROXY)/Cargo.toml
	$(CARGO) fmt --manifest-path $(PROXY)/Cargo.toml --all --check
	$(CARGO) metadata --locked --format-version 1 --manifest-path $(PROXY)/fuzz/Cargo.toml > /dev/null
	$(CARGO) clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings

fuzz: ## fuzz every parser with coverage guidance, SECONDS (60) each; TARGETS chooses
	$(PROXY)/fuzz/run $(or $(SECONDS),60) $(TARGETS)

golden: dev ## rewrite tests/cases/**/*.out.* from the code, deleting orphans
	$(BIN)/python -m pytest -q tests/cases --golden

$(STAMPS)/bench: bench/requirements.txt $(STAMPS)/dev
	$(PIP) install --quiet --require-hashes -r bench/requirements.txt
	@touch $@

bench: build $(STAMPS)/bench ## compare the proxies; results go to bench/results
	$(CARGO) build --locked --release --manifest-path $(PROXY)/Cargo.toml --bin tulle-proxy
	$(BIN)/python -m bench
	$(BIN)/python -m bench.memory
	$(BIN)/python -m bench.handshake

lock: ## pin the Python dependencies again (needs uv)
	uv pip compile $(LOCK_FLAGS) packages/tulle/pyproject.toml requirements/run.in -o requirements/run.txt
	uv pip compile $(LOCK_FLAGS) packages/tulle/pyproject.toml requirements/run.in requirements/dev.in -c requirements/run.txt -o requirements/dev.txt
LOCK_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate

clean: ## remove everything that was built
	rm -rf $(VENV) $(STAMPS) $(PROXY)/target .mypy_cache .ruff_cache .pytest_cache samples/*/node_modules samples/*/*/node_modules
