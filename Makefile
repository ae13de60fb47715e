# heed: `make demo` and `make test` work on a bare Debian 12 with make, gcc and git.
# CMake and Ninja do the work in build/; this file only names the jobs.

BUILD  ?= build
PREFIX ?= /usr/local
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
WERROR ?= $(if $(CI),ON,OFF)
CMAKE_ARGS ?=
DEMO_ARGS ?=
RECIPES ?=
SECONDS ?= 60

.DEFAULT_GOAL := build
.PHONY: help setup build demo recipes test lint format sanitize fuzz bench check-all cross wheel python-venv install vectors clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'
	@echo "  variables: JOBS=$(JOBS) WERROR=$(WERROR) CMAKE_ARGS= DEMO_ARGS= SECONDS=$(SECONDS) PREFIX=$(PREFIX) DESTDIR="

setup: ## install the packages that the default build needs
	@tools/setup default

build: setup ## the library and the command: build/heed, build/libheed.a (the default)
	@tools/build $(BUILD) -DHEED_WERROR=$(WERROR) $(CMAKE_ARGS)
	@ninja -C $(BUILD) -j$(JOBS)

demo: build ## fetch Fashion-MNIST, train the attention model, print its accuracy
	@tools/data/fetch fashion-mnist
	@tools/demo $(DEMO_ARGS)

recipes: build ## train and measure the recipes that changed, over seeds; hours on two cores: RECIPES=fashion-mlp for one
	@tools/recipes $(RECIPES)

test: build ## build and run every test
	@tools/test $(BUILD) -j$(JOBS)

lint: build ## rooms, banned calls, writable data, format, clang-tidy, scripts
	@tools/lint/all

format: ## let clang-format rewrite the sources
	@tools/lint/format --fix

sanitize: setup ## unit and op tests under the address, undefined and thread sanitizers
	@JOBS=$(JOBS) tools/sanitize

fuzz: setup ## run every fuzz target for SECONDS
	@JOBS=$(JOBS) tools/fuzz $(SECONDS)

bench: build ## measure
	@tools/bench

check-all: ## everything above, longer: what a release must pass
	@JOBS=$(JOBS) tools/check_all

cross: ## what of the core builds for other systems (zig as the compiler)
	@JOBS=$(JOBS) tools/cross

vectors: build ## compare with the stored PyTorch vectors, when tests/vectors.c is there
	@if [ -x $(BUILD)/tests/vectors ]; then $(BUILD)/tests/vectors; else echo "no tests/vectors.c yet"; fi

wheel: setup ## the Python package: build/python/dist/heed-*.whl (needs python3 alone)
	@JOBS=$(JOBS) tools/python/stage $(BUILD)/python
	@$${HEED_PYTHON:-python3} tools/python/wheel.py $(BUILD)/python/package $(BUILD)/python/dist

python-venv: ## .venv with NumPy, PyTorch for the CPU and transformers, which tests of the Python package then use
	@tools/python/venv

install: build ## command, libraries, headers, heed.pc, CMake package: PREFIX, DESTDIR
	@cmake --install $(BUILD) --prefix $(PREFIX) --strip

clean: ## remove build folders (not data, not runs)
	@rm -rf build build-*
