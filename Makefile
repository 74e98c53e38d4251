# make run     the daemon, paper trading unless .env says otherwise; ARGS="..." are the arguments of main.py
# make test    all tests with branch coverage; ARGS="..." are arguments of pytest
# make storm   storms of faults on virtual time, the same seeds each time; ARGS="..." are arguments of test.simulation
# make demo    the order desk on an embedded exchange; ARGS="..." are its arguments, docs/demos.md tells of the others
# make lint    rules, format and strict types
# make check   lint and test
# make clean   removes what the tools made, not logs/ and state/
#
# Each makes the environment .venv first where it is missing. PYTHON=... chooses the interpreter (3.11 or newer).

PYTHON ?=
ARGS ?=
export PYTHON

.PHONY: run test storm demo lint check clean

# Ctrl-C reaches the daemon, which takes make's place in the shell that runs the line. make itself then ends
# with 130, as it does after every Ctrl-C; ./run gives the daemon's own exit code.
run:
	@exec ./run $(ARGS)

test:
	@sh deploy/environment.sh requirements-dev.lock
	.venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(ARGS)

storm:
	@sh deploy/environment.sh requirements-dev.lock
	.venv/bin/python -m test.simulation --minutes 2.5 --hours 0.25 --events-per-second 5 --jobs 2 $(ARGS)

demo:
	@sh deploy/environment.sh requirements-demo.lock
	@exec .venv/bin/python demo/order_management.py $(ARGS)

lint:
	@sh deploy/environment.sh requirements-dev.lock
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy

check: lint test

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
