# make demo         watch four cameras being analysed, then see how many true events were found
# make test         run the tests
# make test-fast    run those that take seconds and need no broker and no other server
# All of them set everything up by themselves the first time.

PYTHON := $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: help setup public-nets demo test test-fast check docs kernels bench bench-network bench-mixing bench-surfaces bench-loader bench-cameras bench-decoders bench-scaling bench-outbox bench-staging soak gpu-wheels gpu-check clean

help:
	@grep '^# make' Makefile | sed 's/^# //'
	@echo "make setup, make check (lint, types), make docs (the site, into .work/site), make kernels (compile every CUDA kernel; needs no GPU), make soak (the fleet on bad days),"
	@echo "make bench, make bench-mixing, make bench-surfaces, make bench-loader, make bench-cameras, make bench-decoders, make bench-scaling, make bench-outbox, make bench-staging (on a machine with a GPU),"
	@echo "make gpu-check (on a machine with a GPU), make public-nets (networks to compare with), make bench-network, make clean"

setup:
	@scripts/setup.sh

demo: setup
	@scripts/demo.sh

test: setup
	@.venv/bin/python -m pytest

# Two workers, a file at a time; one thread each for PyTorch, so that they do not fight for cores.
test-fast: setup
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile \
		-m "not slow and not broker and not rtsp"

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

# The theme's notice about its successor is not about these pages.
docs: setup
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict
	@echo "wrote .work/site/index.html"

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

bench-surfaces: setup
	@.venv/bin/python -m benchmarks.surfaces

# Peers that are not installed (decord2; torchcodec, which needs FFmpeg's libraries) are left out and named.
bench-loader: setup
	@.venv/bin/python -m benchmarks.loader

bench-cameras: setup
	@.venv/bin/python -m benchmarks.cameras

bench-decoders: setup
	@.venv/bin/python -m benchmarks.decoder_pool

bench-scaling: setup
	@.venv/bin/python -m benchmarks.scaling

bench-outbox: setup
	@.venv/bin/python -m benchmarks.outbox

bench-staging: setup
	@.venv/bin/python -m benchmarks.staging

# The fleet's bad days for as long as you like: make soak MINUTES=600
soak: setup
	@CIDC_SOAK_MINUTES=$(or $(MINUTES),5) CIDC_SOAK_FLAPS=$(or $(FLAPS),1000) CIDC_SOAK_KILLS=$(or $(KILLS),20) CIDC_FUZZ=10000 \
		.venv/bin/python -m pytest -s --timeout 0 tests/stream/chaos tests/configs/test_config_fuzz.py

gpu-wheels: setup
	@scripts/gpu_wheels.sh

# One part: make gpu-check ONLY=training; one half: HALF=network, HALF=cameras. A machine that need not have DALI: WITHOUT=dali
gpu-check:
	@$(PYTHON) -m scripts.gpu_check $(if $(HALF),--half $(HALF)) $(if $(ONLY),--only $(ONLY)) $(if $(WITHOUT),--without $(WITHOUT))

clean:
	rm -rf .work .venv .public-nets build *.egg-info
