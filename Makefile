# Heron's tasks. `make` or `make help` lists them.

CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR
PROFILE ?= dev
BIN_DIR = $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
# DuckDB's shared library: the default is .cargo/config.toml's; a target directory elsewhere has its own.
export DUCKDB_LIB_DIR = $(abspath $(CARGO_TARGET_DIR))/duckdb
export HERON_TEST_CACHE ?= $(abspath $(CARGO_TARGET_DIR))/test-cache

.DEFAULT_GOAL := help
.PHONY: help deps sdks build run test lint bench agents deny package

help: ## List the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

deps: ## Install what the build needs (Debian packages as root, DuckDB's library)
	@packaging/deps.sh build

sdks: deps ## Install what the tests need (vendors' SDKs, Chromium)
	@packaging/deps.sh test
	@testdata/install-sdks.sh

build: deps ## Build heron and its console
	cargo build --workspace --profile $(PROFILE)

run: sdks build ## Watch a real agent against the scripted model server; leaves the console up
	@testdata/demo.sh $(BIN_DIR)/heron

test: sdks ## Run every test (kernel tests need root)
	@packaging/test.sh

lint: deps ## Formatting, clippy, rustdoc, TypeScript, cargo deny
	@packaging/lint.sh

deny: ## Licences, bans and sources of the dependencies
	@packaging/deps.sh deny
	PATH="$(abspath $(CARGO_TARGET_DIR))/tools/bin:$$PATH" cargo deny check licenses bans sources

bench: deps ## Measure, and write docs/benchmarks.md
	@benches/run.sh

agents: sdks build ## Run the real agents under heron, and write docs/agents.md
	@testdata/agents-matrix/matrix.py --heron $(BIN_DIR)/heron --out docs/agents.md
