# Every command sets up .venv first if it has to. `make help` lists them.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check bench verify verify-real up lock wheels
.DELETE_ON_ERROR:

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

demo: .venv/.installed ## Show everything at work, on this machine, in a minute
	@$(BIN)/overnight demo $(ARGS)

test: .venv/.installed ## Run the tests (ARGS="-k word" chooses)
	@$(BIN)/pytest $(ARGS)

check: .venv/.installed ## Exactly what CI runs: format, lint, types, imports, compose file, Dockerfile, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/docker-compose config -q
	$(BIN)/hadolint Dockerfile
	$(BIN)/pytest $(ARGS)

bench: .venv/.installed .venv-bench/.installed ## Measure small jobs beside PGQueuer (some minutes)
	@$(BIN)/python -m bench.jobs $(ARGS)

verify: .venv/.installed ## Prove that nobody is paid twice: seeded crashes, some minutes (ARGS="--seeds 10000")
	@$(BIN)/overnight verify $(ARGS)

verify-real: .venv/.installed ## Kill real workers, brokers and databases; check that all are paid once (20 min)
	@$(BIN)/python -m verify.real $(ARGS)

up: ## Start everything in docker (Ctrl-C stops it)
	docker compose up --build $(ARGS)

lock: ## Resolve the dependencies again (ARGS=--upgrade for the newest)
	@$(if $(PYTHON),$(PYTHON),python3) tools/lock.py $(ARGS)

wheels: .venv/.installed ## Download the locked packages into .wheels, for uv sync --frozen
	@$(BIN)/python -m pip download -qq --no-deps --require-hashes -d .wheels -r requirements-dev.txt

.venv/.installed: requirements-dev.txt pyproject.toml
	@$(if $(PYTHON),$(PYTHON) tools/make_venv.py,echo "Overnight needs Python 3.11 or newer: apt-get install python3 python3-venv"; exit 1)

.venv-bench/.installed: requirements-bench.txt
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip --disable-pip-version-check install -qq --require-hashes -r $<
	@touch $@
