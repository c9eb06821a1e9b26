# make demo    watch four cameras being analysed, then see how many true events were found
# make test    run the tests
# Both set everything up by themselves the first time.

PYTHON := $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: help setup demo test check bench gpu-check clean

help:
	@grep '^# make' Makefile | sed 's/^# //'
	@echo "make setup, make check (lint, types), make bench, make gpu-check (on a machine with a GPU), make clean"

setup:
	@scripts/setup.sh

demo: setup
	@scripts/demo.sh

test: setup
	@.venv/bin/python -m pytest

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

bench: setup
	@.venv/bin/python -m benchmarks.stages

gpu-check:
	@$(PYTHON) scripts/gpu_check.py

clean:
	rm -rf .work .venv build *.egg-info
