# What a newcomer runs; `just --list` shows this.

# Run the service on its embedded server.
run *options:
    uv run jobstate {{ options }}

# What CI runs, word for word: format, lint, types, locks, tests.
check: lint types locked documented test

# All tests; on containers where a Docker engine answers, else on the embedded server.
test *options:
    uv run pytest {{ options }}

# Tests that need no Redis.
unit *options:
    uv run pytest tests/unit {{ options }}

# Try the API with many more generated requests than the tests do, against its document and against the model of the contract.
fuzz examples="1000":
    SCHEMATHESIS_EXAMPLES={{ examples }} uv run pytest tests/integration/api/test_schemathesis.py -rP
    CONTRACT_EXAMPLES={{ examples }} uv run pytest tests/integration/api/test_contract.py

# Let faults come under load and check every promise: many rounds, a seed that replays them (docs/faults.md).
faults rounds="200" *options:
    uv run python -m tests.chaos {{ rounds }} {{ options }}

# Tests of the line-up example's solver.
examples:
    uv run --group examples pytest examples

# Format and lint, without a change.
lint:
    uv run ruff format --check .
    uv run ruff check .

# Types, strictly.
types:
    uv run mypy

# Format, and repair what the linter can.
fix:
    uv run ruff format .
    uv run ruff check --fix .

# Format the live page's modules and styles (needs npm).
format-page:
    cd tests/integration/node && npm ci --silent && npx prettier --log-level warn --print-width 120 --write "../../../src/service/web/dashboard/*.{js,css}"

# Say whether requirements.lock is what pyproject.toml asks for.
locked:
    uv run python scripts/lock.py --check

# Say whether docs/ is what the code determines.
documented:
    uv run python scripts/docs.py --check

# Write requirements.lock: production's dependencies with their hashes.
lock:
    uv run python scripts/lock.py

# Look production's dependencies up among known vulnerabilities, where a database can be reached.
audit:
    uv run --isolated --only-group audit python scripts/audit.py

# Write the parts of docs/ that the code determines.
docs:
    uv run python scripts/docs.py

# Check the alert rules and try each of them (needs promtool: apt-get install prometheus).
alerts:
    promtool check rules deploy/prometheus/jobstate.rules.yaml
    promtool test rules deploy/prometheus/jobstate.rules.test.yaml

# Measure what the access line, the metrics and the limits cost (needs wrk: apt-get install wrk; two minutes).
bench-observation:
    uv run python -m benchmarks.telemetry_overhead

# Measure all of docs/benchmarks.md anew, or a part of it (needs wrk and redis-benchmark, and npm for BullMQ; a quarter of an hour).
bench *parts:
    uv run --group bench python -m benchmarks {{ parts }}

# Measure how many jobs fit into the empty Redis of compose.yaml, and what it does when it is full (about two minutes).
capacity:
    docker compose up -d --wait redis
    uv run python -m benchmarks.capacity redis://127.0.0.1:6379/0

# Make the files of others that the pages load again, out of their pinned releases.
vendored:
    uv run python scripts/vendor_assets.py

# Make the pictures of the live page in docs/images again, out of an example that runs for some minutes (needs Chromium).
screenshots minutes="12":
    uv run python scripts/screenshots.py {{ minutes }}

# Generate clients with more generators than the tests do, and compile them as far as tools are here (needs Java and npm).
clients:
    PYTHONPATH=. uv run --group clients python scripts/clients.py
