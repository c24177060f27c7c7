# Event Stream. `make` alone lists what there is.

# Tests and functions share one build: sam builds for the host's triple by name, so everything else does too.
export CARGO_BUILD_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')

PYTHON ?= python3
STACK := .venv/emulator/bin/python -B local/stack.py
TOOLS := .venv/tools/bin

.DEFAULT_GOAL := help
.PHONY: help up down demo kill simulate bench test check lint-template fmt token logs clean venvs

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

up: venvs  ## start the local stack, or bring it up to date (PORT=4566)
	@$(STACK) up

down:  ## stop the local stack; what is in it is gone
	@if [ -x .venv/emulator/bin/python ]; then $(STACK) down; else echo "down: nothing was running"; fi

demo: up  ## watch events leave as webhooks and as S3 files
	@cargo build --bin demo
	@. target/local/env && cargo run -q --bin demo

kill: up  ## the demo's load while function processes are killed at random moments (some minutes)
	@cargo build --bin demo
	@.venv/emulator/bin/python -B local/kill.py

simulate:  ## 100,000 random histories of streams, and every bug that has to be found (HISTORIES=100000, some minutes)
	@cargo build -q --bin simulate
	@target/$(CARGO_BUILD_TARGET)/debug/simulate --histories $${HISTORIES:-100000}
	@target/$(CARGO_BUILD_TARGET)/debug/simulate --mutants

bench:  ## what exports cost: from segments to a file, and whole runs against canned answers over TLS
	cargo bench --manifest-path bench/Cargo.toml --target-dir target/bench --bench file
	cargo bench --manifest-path bench/Cargo.toml --target-dir target/bench --bench whole_run

test: venvs  ## everything: formatting, clippy, template, unit, integration and end-to-end tests
	@.venv/emulator/bin/python -B local/test.py

check: lint-template  ## what needs no local stack: formatting, clippy, template, cargo test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	cargo test --workspace

lint-template: venvs  ## cfn-lint and sam validate --lint
	@$(TOOLS)/cfn-lint template.yaml
	@SAM_CLI_TELEMETRY=0 $(TOOLS)/sam validate --lint

fmt:  ## format the code
	cargo fmt --all

token: venvs  ## new access tokens in target/local/env (they last a day)
	@$(STACK) token

logs: venvs  ## what the functions of the local stack have logged
	@$(STACK) logs

clean: down  ## stop the local stack, remove everything that was built or installed
	rm -rf .aws-sam .venv target

venvs:
	@$(PYTHON) -B local/venvs.py
