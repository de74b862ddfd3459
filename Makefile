# The verbs a newcomer types. No build rules here: those are in CMakeLists.txt and cmake/, and what
# each verb does is in tools/. On a fresh Debian 12 or 13, git and make are all it takes.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run build test test-long unit check format asan tsan bench clean

# Make variables that the scripts read from the environment.
ifdef DUCKDB_DIR
export DUCKDB_DIR
endif
ifdef EIDER_TEST_ASAN
export EIDER_TEST_ASAN
endif
ifdef EIDER_TEST_ARGS
export EIDER_TEST_ARGS
endif

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16
	@echo
	@echo '  DUCKDB_DIR=/path        with any of them: your own libduckdb.so and its headers'
	@echo '  EIDER_TEST_ASAN=unit    with test: only unit tests under sanitizers'

run: ## install what is missing, build, start the server and say what to try
	@tools/packages.sh build run
	@tools/build.sh release
	@exec tools/run.sh

build: ## the same up to the release programs, build/eider and build/eider-engine
	@tools/build.sh release

test: ## build and run the whole suite
	@tools/test.sh

test-long: ## the tests that take minutes each
	@EIDER_TEST_TIER=long tools/test.sh

unit: ## only the unit tests
	@tools/unit.sh release

check: ## style, formatting, a build with clang, clang-tidy
	@tools/check.sh

format: ## rewrite the sources as .clang-format says
	@tools/check.sh format

asan: ## build/asan/eider with address and undefined sanitizers, and its unit tests
	@tools/unit.sh asan

tsan: ## build/tsan/eider with the thread sanitizer, and its unit tests
	@tools/unit.sh tsan

bench: ## each workload beside its bound, in one table (bench/README.md; minutes)
	@bench/run

clean: ## remove what was built here (what was fetched stays in the cache folder)
	@rm -rf build
