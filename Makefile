# The commands a person needs. Each says what it is about to do.
CARGO ?= cargo
BIN   := target/release/haar

.PHONY: build setup demo test soak methods bench lint

build:
	$(CARGO) build --release --bin haar

setup:
	@scripts/setup

demo: build
	@scripts/demo $(BIN)

test: build
	@scripts/test-clients
	$(CARGO) test --release --workspace

# Half an hour of deploys, splits, kills of instances and of haar, under traffic. `make test` does forty seconds of it.
soak: build
	HAAR_SOAK_SECONDS=$${HAAR_SOAK_SECONDS:-1800} $(CARGO) test --release -p tests -- --nocapture soak::

# The table of methods in docs/compatibility.md: who calls what is noted while the tests run.
methods: build
	rm -rf target/methods
	$(CARGO) test --release -p tests -- --skip methods::
	HAAR_WRITE_METHODS=1 $(CARGO) test --release -p tests methods::

bench:
	@bench/run

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	@scripts/deny
