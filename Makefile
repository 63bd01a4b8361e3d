# make app    environment, demo if missing, then the app on localhost:8501
# make test   environment, then all tests but those marked slow
# make bench  performance as ratios, each measured in one run

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8501
BIN     = $(VENV)/bin

.PHONY: app test test-all bench demo lint clean-demo

app: $(VENV)/.app demo
	$(BIN)/streamlit run app/main.py --server.port $(PORT)

demo: $(VENV)/.app
	$(BIN)/python -m core demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean-demo:
	rm -rf cached_features/demo runs/demo-*

$(VENV)/.app: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.test: requirements-dev.txt $(VENV)/.app
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
