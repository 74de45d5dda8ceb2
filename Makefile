# The commands a person needs. Each says what it is about to do.
CARGO ?= cargo
BIN   := target/release/haar

.PHONY: build setup demo test bench lint

build:
	$(CARGO) build --release --bin haar

setup:
	@scripts/setup

demo: build
	@scripts/demo $(BIN)

test: build
	@scripts/test-clients
	$(CARGO) test --release --workspace

bench:
	@bench/run

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	@scripts/deny
