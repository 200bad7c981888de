# `make test` and `make docs` are in the README. Each makes a virtual environment of its own first.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO = results/demo
# Ratios that are trained and compared: a curve is read only where runs lie.
DEMO_CR = 5,30,100,200

# Sets of runs: those at budgets that decide, at fixed learning rates and tuned, and those of 30 and 6 epochs, tuned, which
# starve DWF.
REFERENCE = results/reference
TUNED = results/tuned
STARVED = results/starved
SETS = reference-lenet-300-100 reference-lenet-300-100-mnist reference-lenet-5-1998 reference-lenet-5 reference-vgg-16-quarter tuned-lenet-300-100 starved-lenet-300-100 starved-lenet-5
TUNE-lenet-300-100 = --trials 6 --lr-range 0.03,0.5 --compression 5,40,300 --seed 100,101
TUNE-lenet-5 = --trials 5 --lr-range 0.02,0.32 --compression 20,200 --seed 100
AT-starved-lenet-300-100 = 2,5,10,30,100,300,1000
AT-reference-lenet-300-100 = 2,10,30,100,300
AT-reference-lenet-300-100-mnist = 2,10,30,56,68,100,200,300
AT-reference-lenet-5-1998 = 10,30,50,100,300
AT-reference-lenet-5 = 10,50,100,175,300
AT-reference-vgg-16-quarter = 10,20,50,70
AT-tuned-lenet-300-100 = 2,10,30,100,300
AT-starved-lenet-5 = 2,10,50,250,1000
ENGINE ?= --jobs 2
# Tests side by side: a file's tests stay in one process, as they share what they trained. Files go out in the order of
# tests/conftest.py, the longest first; xdist's own order, by the number of tests, has the longest last.
WORKERS ?= --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
DRAW ?= $(shell date +%s)

# A GPU that is lent for minutes: what travels to it, and the command there, which makes no environment.
MINUTES ?= 9
OUT ?= gpu-out
GPU ?=
PACK = gpu-pack
CARRIED ?= $(firstword $(wildcard carried $(PACK)/carried))
PHOTOGRAPHS ?= ../shared/data/cifar10-jpeg.tar.xz
PYTHON312 ?= python3.12

.PHONY: demo schema test test-fast properties test-oldest package audit faults reference tuned starved reference-check tables pictures docs notebook gpu gpu-pack gpu-rehearsal clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test,check]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/dwfbench run --method dwf --depth 3 --compression $(DEMO_CR) --results $(DEMO) || [ $$? -eq 1 ]
	$(BIN)/dwfbench run --method "dense,magnitude,random[distribution=erk],snip,synflow" --compression $(DEMO_CR) --results $(DEMO) || [ $$? -eq 1 ]
	$(BIN)/dwfbench compare --at $(DEMO_CR) --results $(DEMO)
	$(BIN)/dwfbench plot all --results $(DEMO)
	$(BIN)/dwfbench report --results $(DEMO)

# The reference sets: what an archive has not is trained, eight runs at once in each of two processes. Networks of
# convolutions are trained one by one, as on a CPU lanes do not make them faster, each by the rule of its own name alone:
# a run takes six minutes of a core, and an hour with the photographs that PHOTOGRAPHS names.
RUN-reference = --seeds 3 --lanes 8 --eval-every 10
reference-lenet-5-1998: RUN-reference = --seeds 3 --eval-every 5
reference-lenet-5: RUN-reference = --eval-every 5
reference-vgg-16-quarter: RUN-reference = --dataset $(PHOTOGRAPHS) --eval-every 5
reference: $(VENV)/.installed reference-lenet-300-100 reference-lenet-300-100-mnist reference-lenet-5-1998

reference-%:
	test -d $(REFERENCE)/$*/runs || $(BIN)/dwfbench unpack $(REFERENCE)/$*.zip --to $(REFERENCE)/$*
	$(BIN)/dwfbench run --config $(REFERENCE)/$*.toml $(RUN-reference) --results $(REFERENCE)/$* $(ENGINE) || [ $$? -eq 1 ]
	$(BIN)/dwfbench pack $(REFERENCE)/$*.zip $(REFERENCE)/$* -o $(REFERENCE)/$*.zip
	$(MAKE) tables-reference-$*

# The same budget, with learning rates of trials at that budget, which are made anew where the archive has none.
tuned: $(VENV)/.installed tuned-lenet-300-100

tuned-%:
	test -d $(TUNED)/$*/runs || $(BIN)/dwfbench unpack $(TUNED)/$*.zip --to $(TUNED)/$*
	test -d $(TUNED)/$*/tuning/studies || $(MAKE) trials-$*
	$(BIN)/dwfbench run --tuned --config $(TUNED)/$*.toml --seeds 3 --lanes 8 --eval-every 10 --results $(TUNED)/$* $(ENGINE) || [ $$? -eq 1 ]
	$(BIN)/dwfbench pack $(TUNED)/$*.zip $(TUNED)/$* -o $(TUNED)/$*.zip
	$(MAKE) tables-tuned-$*

# A trial is a curve of one seed at one learning rate. Magnitude pruning and powerpropagation have two rates of fine-tuning,
# and so twice the trials, magnitude pruning's with three seeds; rates of methods with factors are higher.
TRIALS = $(BIN)/dwfbench tune --config $(TUNED)/$*.toml --results $(TUNED)/$* --max-gap 20 --lanes 8 --eval-every 25 $(ENGINE)
trials-%:
	$(TRIALS) --seed 100 --method dwf --points 8 --compression 3,10,30,100,300 --trials 5 --lr-range 0.08,1.28 --widen 1 || [ $$? -eq 1 ]
	$(TRIALS) --seed 100 --method l1 --points 8 --compression 3,10,30,100,300 --trials 5 --lr-range 0.02,0.32 --widen 1 || [ $$? -eq 1 ]
	$(TRIALS) --seed 100 --method dense,synflow,snip,random,rigl --compression 2,10,30,100,300 --trials 5 --lr-range 0.02,0.32 --widen 1 || [ $$? -eq 1 ]
	$(TRIALS) --seed 100 --method grasp --max-gap 2 --max-runs 8 --compression 2,10,30,100,300 --trials 5 --lr-range 0.02,0.32 --widen 1 || [ $$? -eq 1 ]
	$(TRIALS) --seed 100 --method gmp,imp --compression 2,10,30,100,300 --trials 5 --lr-range 0.02,0.32 --widen 0 || [ $$? -eq 1 ]
	$(TRIALS) --seed 100 --method powerprop --compression 2,10,30,100,300 --trials 10 --lr-range 0.02,0.32 --widen 1 || [ $$? -eq 1 ]
	$(TRIALS) --seed 100,101,102 --method "magnitude[finetune_epochs=none]" --compression 2,10,30,100,300 --trials 10 --lr-range 0.015,0.24 --widen 0 || [ $$? -eq 1 ]
	$(TRIALS) --seed 100 --method "magnitude[finetune_epochs=0]" --compression 2,10,30,100,300 --trials 5 --lr-range 0.015,0.24 --widen 1 || [ $$? -eq 1 ]

# The starved sets, from the trials to the report: about seven and a half hours each on 2 cores. What an archive has is
# not trained again: it is unpacked first, and packed again at the end.
starved: $(VENV)/.installed starved-lenet-300-100 starved-lenet-5

starved-%:
	test -d $(STARVED)/$*/runs || $(BIN)/dwfbench unpack $(STARVED)/$*.zip --to $(STARVED)/$*
	# Studies of before there was a winner at each compression are made anew.
	find $(STARVED)/$*/tuning/studies -name '*.json' ! -exec grep -q '"targets"' {} ';' -delete
	$(BIN)/dwfbench tune --config $(STARVED)/$*.toml $(TUNE-$*) --results $(STARVED)/$* $(ENGINE) || [ $$? -eq 1 ]
	$(BIN)/dwfbench run --tuned --config $(STARVED)/$*.toml --seeds 3 --results $(STARVED)/$* $(ENGINE) || [ $$? -eq 1 ]
	$(BIN)/dwfbench pack $(STARVED)/$*.zip $(STARVED)/$* -o $(STARVED)/$*.zip
	$(MAKE) tables-starved-$*

# Tables, figures and reports of the archives, those that are not committed too. Every picture and table that is committed
# is one of these or of `pictures`.
tables: $(VENV)/.installed $(SETS:%=tables-%)
	$(BIN)/dwfbench compare --results results/fashion-mnist-lenet-300-100.zip --format markdown > results/fashion-mnist-lenet-300-100/table.md
	$(BIN)/dwfbench plot all --results results/fashion-mnist-lenet-300-100.zip
	$(BIN)/dwfbench plot --threshold 0.001 --results results/fashion-mnist-lenet-300-100.zip -o results/fashion-mnist-lenet-300-100/accuracy-1e-3.png
	$(BIN)/dwfbench plot dynamics --method dwf,spred --results results/fashion-mnist-lenet-300-100.zip
	$(BIN)/dwfbench compare --results results/fashion-mnist-more-baselines.zip --at 10,30,100,300,1000 --format markdown > results/fashion-mnist-more-baselines/table.md
	$(BIN)/dwfbench compare --results results/fashion-mnist-bfloat16.zip --at 50,100,200,300,500 --format markdown > results/fashion-mnist-bfloat16/table.md
	$(BIN)/dwfbench plot budget --results results/budget/lenet-300-100.zip --max-gap 3 -o results/budget/budget.png
	$(BIN)/dwfbench plot --results $(REFERENCE)/lenet-300-100.zip --results results/two-stages.zip --method "dwf[depth=3],dense" --ylim 84,90.5 -o results/two-stages/accuracy.png
	$(BIN)/dwfbench plot --results results/digits-hoyer.zip -o docs/hoyer.png

define TABLES
$(BIN)/dwfbench compare --results $(1).zip --at $(2) --format markdown > $(1)/table.md
$(BIN)/dwfbench compare --results $(1).zip --at $(2) --format latex > $(1)/table.tex
$(BIN)/dwfbench compare --results $(1).zip --at $(2) --reading relative --format csv > $(1)/table.csv
$(BIN)/dwfbench compare --results $(1).zip --at $(2) --versus "dwf D=3" --format markdown > $(1)/versus-dwf-3.md
$(BIN)/dwfbench compare --results $(1).zip --at $(2) --versus "dwf D=2" --format markdown > $(1)/versus-dwf-2.md
$(BIN)/dwfbench claims --results $(1).zip --format markdown > $(1)/claims.md
$(BIN)/dwfbench plot all --results $(1).zip
$(BIN)/dwfbench report --results $(1).zip
endef

tables-reference-%:
	$(call TABLES,$(REFERENCE)/$*,$(AT-reference-$*))

# README's two figures are of this set.
tables-tuned-lenet-300-100:
	$(call TABLES,$(TUNED)/lenet-300-100,$(AT-tuned-lenet-300-100))
	$(BIN)/dwfbench plot --method "dwf,l1,magnitude[finetune_epochs=none],random,snip,synflow,dense" --ylim 81,90.5 --results $(TUNED)/lenet-300-100.zip -o $(TUNED)/lenet-300-100/paper.png
	$(BIN)/dwfbench plot --method "dwf[depth=3],gmp,imp,powerprop,rigl,magnitude[finetune_epochs=none],dense" --ylim 81,90.5 --results $(TUNED)/lenet-300-100.zip -o $(TUNED)/lenet-300-100/stronger.png

tables-starved-%:
	$(call TABLES,$(STARVED)/$*,$(AT-starved-$*))

# The picture of a report's first screen in the tutorial, by a browser.
CHROMIUM ?= chromium
pictures: tables-starved-lenet-300-100
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --force-color-profile=srgb --window-size=1280,900 --virtual-time-budget=20000 \
		--screenshot=$(CURDIR)/docs/pictures/report.png file://$(CURDIR)/$(STARVED)/lenet-300-100/report.html
	$(BIN)/python -c 'import sys; from PIL import Image; Image.open(sys.argv[1]).convert("RGB").quantize(256).save(sys.argv[1], optimize=True)' docs/pictures/report.png

# The example notebook, with the outputs that it has now.
notebook: $(VENV)/.installed
	$(BIN)/python -m tests.test_notebook

# A few of the committed runs, other ones each time, trained again from their records.
reference-check: $(VENV)/.installed
	for set in $(REFERENCE)/lenet-300-100 $(REFERENCE)/lenet-300-100-mnist $(REFERENCE)/lenet-5-1998 $(TUNED)/lenet-300-100 $(STARVED)/lenet-300-100 $(STARVED)/lenet-5; do $(BIN)/dwfbench verify --results $$set.zip --draw $(DRAW) $(ENGINE) || exit 1; done

# The documentation as a site that opens from disk, site/index.html; a warning is an error.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# The JSON Schema of what is stored, from the types that read and write it.
schema: $(VENV)/.installed
	$(BIN)/python -m dwfbench.runs.schema docs/record.schema.json

# In about six minutes on two free processors. The tests of ten seconds and more, which continuous integration runs too:
# make test PYTEST=--long
test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python -m pytest $(WORKERS) $(PYTEST)

# What a change is tried with, in about a minute: the tests that take no second each.
test-fast: $(VENV)/.installed
	$(BIN)/python -m pytest $(WORKERS) -m "not slow" $(PYTEST)

# The properties on inputs that are drawn anew; what fails is tried again the next time.
properties: $(VENV)/.installed
	$(BIN)/python -m pytest $(WORKERS) --hypothesis-profile drawn-anew $(shell grep --recursive --files-with-matches "^@given" tests)

# The oldest packages that pyproject.toml allows, in an environment of their own; on Python 3.11.
test-oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --editable ".[test]" --constraint constraints/oldest.txt
	.venv-oldest/bin/python -m pytest

# Wheel and source archive, and the wheel in an environment of its own, away from the sources.
package: $(VENV)/.installed
	rm -rf dist .venv-package
	$(BIN)/python -m build --quiet
	$(PYTHON) -m venv .venv-package
	.venv-package/bin/python -m pip install --quiet dist/*.whl
	cd dist && ../.venv-package/bin/python -P ../tests/smoke.py

# Known vulnerabilities of what is installed, as PyPI knows them.
audit: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip_audit --skip-editable

# Every fault of docs/reliability.md, all 200 kills among them.
faults: $(VENV)/.installed
	$(BIN)/python -m pytest tests/faults --faults -rP

# Tests, speed and curves on this machine's GPU within so many minutes: benchmarks/README.md.
gpu:
	$(if $(CARRIED),$(PYTHON) -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target $(CARRIED)/site $(CARRIED)/wheels/*.whl)
	PYTHONPATH="$(CURDIR):$(if $(CARRIED),$(abspath $(CARRIED))/site:)$$PYTHONPATH" \
		$(PYTHON) -m benchmarks.gpu --minutes $(MINUTES) --out $(OUT) --carried $(or $(CARRIED),carried) $(GPU)

gpu-pack: $(VENV)/.installed
	rm -rf $(PACK)
	$(BIN)/python -m benchmarks.gpu.pack $(PACK) --photographs $(PHOTOGRAPHS)

# The same on a CPU, tiny, from a pack, without a network, with the packages of a bare machine. Its environment is made once.
gpu-rehearsal: gpu-pack .venv-bare/.installed
	$(BIN)/python -m benchmarks.gpu.rehearsal $(PACK) --python $(CURDIR)/.venv-bare/bin/python

.venv-bare/.installed: constraints/bare-gpu.txt
	$(PYTHON312) -m venv .venv-bare
	.venv-bare/bin/python -m pip install --quiet --requirement constraints/bare-gpu.txt
	touch $@

clean:
	rm -rf site $(PACK) .venv-bare $(VENV) .venv-oldest .venv-package dist $(DEMO)
