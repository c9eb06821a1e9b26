# make demo    watch four cameras being analysed, then see how many true events were found
# make test    run the tests
# Both set everything up by themselves the first time.

PYTHON := $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: help setup public-nets demo test check kernels bench bench-network bench-mixing bench-loader gpu-wheels gpu-check clean

help:
	@grep '^# make' Makefile | sed 's/^# //'
	@echo "make setup, make check (lint, types), make kernels (compile every CUDA kernel; needs no GPU), make bench, make bench-mixing, make bench-loader,"
	@echo "make gpu-check (on a machine with a GPU), make public-nets (networks to compare with), make bench-network, make clean"

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

kernels: setup
	@.venv/bin/python scripts/compile_kernels.py

bench: setup
	@.venv/bin/python -m benchmarks.stages

public-nets: setup
	@scripts/public_nets.sh

bench-network: public-nets
	@.venv/bin/python -m benchmarks.network --training --memory

bench-mixing: setup
	@.venv/bin/python -m benchmarks.mixing

# Peers that are not installed (decord2; torchcodec, which needs FFmpeg's libraries) are left out and named.
bench-loader: setup
	@.venv/bin/python -m benchmarks.loader

gpu-wheels: setup
	@scripts/gpu_wheels.sh

gpu-check:
	@$(PYTHON) scripts/gpu_check.py

clean:
	rm -rf .work .venv .public-nets build *.egg-info
