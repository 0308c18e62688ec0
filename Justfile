# Commands for developers: `just --list` shows them by group. CI runs `check`.

# Run the service on its embedded server.
[group('run')]
run *options:
    uv run jobstate {{ options }}

# Run what CI runs: format, lint, types, locks, generated documents, tests.
[group('check')]
check: lint types lock-check docs-check test

# Check format and lint, without a change.
[group('check')]
lint:
    uv run ruff format --check .
    uv run ruff check .

# Check types (mypy, strict).
[group('check')]
types:
    uv run mypy

# Check that requirements.lock matches pyproject.toml.
[group('check')]
lock-check:
    uv run python scripts/lock.py --check

# Check that the generated parts of docs/ match the code.
[group('check')]
docs-check:
    uv run python scripts/docs.py --check

# Check and test the alert rules (needs promtool: apt-get install prometheus).
[group('check')]
alerts:
    promtool check rules deploy/prometheus/jobstate.rules.yaml
    promtool test rules deploy/prometheus/jobstate.rules.test.yaml

# Look up the locked dependencies in vulnerability databases.
[group('check')]
audit:
    uv run --isolated --only-group audit python scripts/audit.py

# Run all tests, on containers if a Docker engine responds, else on the embedded server.
[group('test')]
test *options:
    uv run pytest {{ options }}

# Run the unit tests but the slowest, and a few tests of every area (tests/quick.txt), in half a minute on two processors.
[group('test')]
quick *options:
    uv run pytest @tests/quick.txt tests/unit --ignore tests/unit/client/test_types.py -n 4 {{ options }}

# Run the tests that need no Redis.
[group('test')]
unit *options:
    uv run pytest tests/unit {{ options }}

# Run tests on another Python version, in an environment of its own: just test-python 3.14 tests/unit
[group('test')]
test-python version *options:
    uv run --isolated --group examples --group clients --python {{ version }} pytest {{ options }}

# Run tests with several partitions: all of them, or those that CI runs (just test-partitions 16 @tests/partitions.txt).
[group('test')]
test-partitions count="16" *options:
    TEST_PARTITIONS={{ count }} uv run pytest {{ options }}

# Run tests with a master that sentinels name: all of them, or those that are named.
[group('test')]
test-sentinel *options:
    TEST_DEPLOYMENT=sentinel uv run pytest {{ options }}

# Run tests on Redis Cluster (three masters): all of them, or those that are named.
[group('test')]
test-cluster *options:
    TEST_DEPLOYMENT=cluster uv run pytest {{ options }}

# Run the tests of the example's solver.
[group('test')]
examples:
    uv run --group examples pytest -n 0 examples

# Send generated requests, many more than `test` does, and compare with the API document and the reference model.
[group('test')]
fuzz examples="1000":
    SCHEMATHESIS_EXAMPLES={{ examples }} uv run pytest tests/integration/api/test_schemathesis.py -rP
    CONTRACT_EXAMPLES={{ examples }} uv run pytest tests/integration/api/test_contract.py

# Inject faults under load and check every promise; `--backend sentinel|cluster` with replicas (docs/faults.md).
[group('test')]
faults rounds="200" *options:
    uv run python -m tests.chaos {{ rounds }} {{ options }}

# Format, and apply the linter's fixes.
[group('write')]
fix:
    uv run ruff format .
    uv run ruff check --fix .

# Format the dashboard's modules and styles (needs npm).
[group('write')]
format-page:
    cd tests/integration/node && npm ci --silent && npx prettier --log-level warn --print-width 120 --write "../../../src/service/web/dashboard/*.{js,css}"

# Generate requirements.lock: the production dependencies with their hashes.
[group('write')]
lock:
    uv run python scripts/lock.py

# Generate the parts of docs/ that the code determines.
[group('write')]
docs:
    uv run python scripts/docs.py

# Copy the vendored browser assets out of their pinned releases.
[group('write')]
vendor:
    uv run python scripts/vendor_assets.py

# Take the screenshots of docs/images, from an example that runs for some minutes (needs Chromium).
[group('write')]
screenshots minutes="12":
    uv run python scripts/screenshots.py {{ minutes }}

# Run all benchmarks or the named ones, and write docs/benchmarks.md (needs wrk, redis-benchmark, and npm for BullMQ; 15 minutes).
[group('benchmark')]
bench *parts:
    uv run --group bench python -m benchmarks {{ parts }}

# Measure the cost of access log, metrics and limits (needs wrk: apt-get install wrk; 2 minutes).
[group('benchmark')]
bench-telemetry:
    uv run python -m benchmarks.telemetry_overhead

# Measure how many jobs fit into the empty Redis of compose.yaml, and what happens when it is full (2 minutes).
[group('benchmark')]
capacity:
    docker compose up -d --wait redis
    uv run python -m benchmarks.capacity redis://127.0.0.1:6379/0

# Generate clients with more generators than the tests use, and compile them if the tools are installed.
[group('docs')]
clients:
    PYTHONPATH=. uv run --group clients python scripts/clients.py
