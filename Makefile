# The verbs of the project. Each does all of its own set-up (scripts/setup.sh); nothing is installed outside this folder
# but Debian packages that are missing. ARGS reaches the program behind the verb: make test ARGS="-k redis -x"

PYTHON_ENV := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test interop types lint docs bench bench-full fuzz crosstalk wheels clean

help:      ## this list
	@sed -n 's/^\([a-z-]*\): *## /  make \1\t/p' $(MAKEFILE_LIST)

demo:      ## a small shop: init, apply, materialize, push; read through the SDK and over HTTP; needs no server
	@scripts/setup.sh run
	@$(PYTHON_ENV)/python demo/demo.py $(ARGS)

test:      ## all tests, with a real redis-server
	@scripts/setup.sh test
	@$(PYTHON_ENV)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

interop:   ## the same questions to fastserve and to Feast 0.67, on data that Feast wrote
	@interop/run.sh $(ARGS)

types:     ## mypy --strict, and the stub of the core against the core
	@scripts/setup.sh dev
	@$(PYTHON_ENV)/mypy
	@$(PYTHON_ENV)/python -m mypy.stubtest --mypy-config-file pyproject.toml fastserve._core

lint:      ## ruff, and shellcheck where it is installed
	@scripts/setup.sh dev
	@$(PYTHON_ENV)/ruff check .
	@$(PYTHON_ENV)/ruff format --check .
	@! command -v shellcheck >/dev/null || shellcheck -x scripts/*.sh interop/*.sh wheels/*.sh tools/*.sh .ci/run

docs:      ## the documentation site, into build/site; a link that leads nowhere fails
	@scripts/setup.sh docs
	@NO_MKDOCS_2_WARNING=1 $(PYTHON_ENV)/mkdocs build --strict --quiet $(ARGS)
	@echo build/site/index.html

bench:     ## measures against Feast and against the floor (a quarter of an hour): tables, and a report with plots
	@scripts/setup.sh bench
	@$(PYTHON_ENV)/python bench/run.py $(ARGS)

bench-full: ## the same for hours: more calls, a million entities
	@scripts/setup.sh bench
	@$(PYTHON_ENV)/python bench/run.py --full --flat 1000000 $(ARGS)

fuzz:      ## the decoders on broken bytes for a minute, under address sanitiser
	@scripts/fuzz.sh $(ARGS)

crosstalk: ## two million asynchronous reads through a proxy that delays, splits and cuts: nobody gets another's answer
	@scripts/setup.sh test
	@FASTSERVE_CROSSTALK_READS=$${READS:-2000000} $(PYTHON_ENV)/python -m pytest -s -n 0 tests/stores/test_crosstalk.py $(ARGS)

wheels:    ## sdist and manylinux wheels into wheels/dist, each installed cleanly and asked once
	@wheels/build.sh $(ARGS)
	@$(PYTHON_ENV)/python wheels/check.py

clean:     ## removes what was built and the environments
	@rm -rf build dist wheels/dist .venv .venv-* *.egg-info fastserve/_core.*.so fastserve/_core.c
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
