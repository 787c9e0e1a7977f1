# Set-up, first run, tests. `make run` and `make test` need Python 3.10+ and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns of every editable installation
PIP := PYTHONWARNINGS="ignore:Editable installation" $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

# Hundreds of processes of the tests load the same modules: compiled once, also where the environment forbids it.
test test-slow test-cluster: export PYTHONDONTWRITEBYTECODE =

.PHONY: run test test-slow test-cluster lint lock clean

run: $(VENV)/.installed ## the sample study: plan, train, tables, report
	$(BIN)/python launch.py --grid losses

test: $(VENV)/.installed-test ## the default tests: no network, no GPU, under five minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# One Ray at a time: each takes all cores, and two of them would wait for each other.
test-slow: $(VENV)/.installed-test ## what takes longer: a cluster that was there before, several workers of Ray Train, pages in a browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "(slow or browser) and not ray"
	$(BIN)/python -m pytest -m "(slow or browser) and ray" --durations=25

CLUSTER_PACKAGES := openssh-server openssh-client rsync iproute2 slurmctld slurmd slurm-client munge
test-cluster: $(VENV)/.installed-test ## hosts in namespaces of this machine, brought up by `ray up clusters/lab.yaml`, and by Slurm; as root
	@if ! (command -v sshd && command -v ssh && command -v rsync && command -v ip && \
	  command -v slurmctld && command -v slurmd && command -v sbatch && command -v munged) >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(CLUSTER_PACKAGES); } >/dev/null; \
	  else echo "make test-cluster runs as root and needs $(CLUSTER_PACKAGES)" >&2; exit 1; fi; \
	fi
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m cluster --durations=25

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("lossgrid needs Python 3.10 or newer, this is " + sys.version.split()[0] + "; run: make PYTHON=python3.11") if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[test]'
	touch $@ $(VENV)/.installed

lock: $(VENV)/.installed-test ## constraints.txt anew, from what is installed
	$(BIN)/python tools/make_constraints.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
