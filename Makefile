# make help            this list. Every other command but gpu-check and clean first makes .venv if it is missing
# make demo            watch four cameras being analysed, then see how many true events were found
#
# make setup           make .venv, about 2 GB
# make test            all tests
# make test-fast       the tests that take seconds and need no broker and no other server
# make check           lint, format, types
# make docs            the documentation as a site, in .work/site
# make soak            cameras on bad days: MINUTES=600 for as long as you like
# make clean           remove .venv and everything that these commands have made
#
# make bench           the stages of the live pipeline
# make bench-cameras   cameras that this machine can analyse
# make bench-decoders  Python's time for each packet that NVDEC decodes
# make bench-fleet     how long cameras are unwatched when one of three workers dies, joins or leaves
# make bench-loader    clips that training loads in a second
# make bench-mixing    directional mixing, beside PyTorch's operators
# make bench-network   the network, beside public networks (make public-nets installs them)
# make bench-outbox    events that are stored and sent in a second
# make bench-scaling   the cost of a clip with 1 to 256 simulated cameras
# make bench-staging   copies to a GPU; needs a GPU
# make bench-surfaces  conversion of NVDEC's frames to RGB
# make bench-tracing   what traces of events cost
#
# make kernels         compile every CUDA kernel; needs no GPU (NVCC_FOR=sm_90: nvcc for one architecture only)
# make gpu-check       check a machine with a GPU: HALF=network, HALF=cameras or ONLY=PART for less, WITHOUT=dali if DALI is missing
# make gpu-wheels      download packages for a GPU machine without a network

PYTHON := $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: help setup public-nets demo test test-fast check docs kernels bench bench-network bench-mixing bench-surfaces bench-loader bench-cameras bench-decoders bench-fleet bench-scaling bench-outbox bench-staging bench-tracing soak gpu-wheels gpu-check clean

help:
	@sed -n '/^# make help/,/^$$/s/^# \{0,1\}//p' Makefile

setup:
	@scripts/setup.sh

demo: setup
	@scripts/demo.sh

# Workers take a file at a time, with one thread each for PyTorch, so that they do not fight for cores.
PARALLEL := OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile

# First what can run side by side, then what needs the machine for itself; the second runs also if the first fails.
test: setup
	@$(PARALLEL) -m "not broker and not rtsp and not gpu and not alone"; first=$$?; \
		.venv/bin/python -m pytest -m "broker or rtsp or gpu or alone" && exit $$first

test-fast: setup
	@$(PARALLEL) -m "not slow and not broker and not rtsp"

check: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

# The theme's notice about its successor is not about these pages.
docs: setup
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict
	@echo "wrote .work/site/index.html"

kernels: setup
	@.venv/bin/python scripts/compile_kernels.py $(if $(NVCC_FOR),--nvcc-for $(NVCC_FOR))

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

bench-fleet: setup
	@.venv/bin/python -m benchmarks.fleet

bench-scaling: setup
	@.venv/bin/python -m benchmarks.scaling

bench-outbox: setup
	@.venv/bin/python -m benchmarks.outbox

bench-staging: setup
	@.venv/bin/python -m benchmarks.staging

bench-tracing: setup
	@.venv/bin/python -m benchmarks.tracing

soak: setup
	@CIDC_SOAK_MINUTES=$(or $(MINUTES),5) CIDC_SOAK_FLAPS=$(or $(FLAPS),1000) CIDC_SOAK_KILLS=$(or $(KILLS),20) CIDC_FUZZ=10000 \
		.venv/bin/python -m pytest -s --timeout 0 tests/stream/chaos tests/configs/test_config_fuzz.py

gpu-wheels: setup
	@scripts/gpu_wheels.sh

gpu-check:
	@$(PYTHON) -m scripts.gpu_check $(if $(HALF),--half $(HALF)) $(if $(ONLY),--only $(ONLY)) $(if $(WITHOUT),--without $(WITHOUT))

clean:
	rm -rf .work .venv .public-nets build *.egg-info
