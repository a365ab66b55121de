PYTHON ?= python3
CONFIG ?= bn.yaml
RUN := .venv/bin/python
DEMO := --data synthetic --set epochs=5 --set batch_size=32 --set model.norm_momentum=0.9 --overwrite

.DEFAULT_GOAL := help
.NOTPARALLEL:  # one environment, and seconds that are measured
.PHONY: help demo train evaluate report seeds resnet20 optimism studies recipes ablation test lint bench torture fuzz clean docs/report.png docs/tour.ipynb

help:  ## this list
	@grep -hE '^[a-z][^:=]*:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([^:]+):.*  ## /\1\t/' | expand -t 18

demo: .venv/installed  ## train both networks on synthetic images, evaluate, draw: one or two minutes
	@echo "plain and batch norm train side by side; the lines are those of batch norm"
	$(RUN) train.py --config plain.yaml --set title=plain $(DEMO) --run-dir checkpoints/demo/plain/seed0 --quiet & plain=$$!; trap 'kill $$plain 2> /dev/null; exit 130' INT; \
	$(RUN) train.py --config bn.yaml --set 'title=batch norm' $(DEMO) --run-dir checkpoints/demo/bn/seed0 && wait $$plain || { kill $$plain 2> /dev/null; exit 1; }
	$(RUN) evaluate.py checkpoints/demo --output checkpoints/demo
	@echo "look at: checkpoints/demo/comparison.png (how both learn), checkpoints/demo/comparison.md (all numbers)"
	@echo "next, on CIFAR-10 (a download of 170 MB):  make train CONFIG=fast.yaml    on your own images: docs/your-own-images.md"

train: .venv/installed  ## the real run: make train CONFIG=plain.yaml
	$(RUN) train.py --config $(CONFIG)

# evaluate.py ends with 3 where it left out runs that are not finished.
evaluate: .venv/installed  ## every finished run, and the comparison
	$(RUN) evaluate.py || [ $$? -eq 3 ]

report: .venv/installed-report  ## checkpoints/report.html: a page to look at
	$(RUN) evaluate.py --report || [ $$? -eq 3 ]

docs/report.png: .venv/installed-dev  ## the page's picture in docs/evaluation.md, of the runs under results/
	rm -f tests/artefacts/report.png
	ARTEFACTS=tests/artefacts $(RUN) -m pytest tests/reporting/test_html.py -k real_runs
	cp tests/artefacts/report.png $@

docs/tour.ipynb: .venv/installed-dev  ## the notebook, run and saved with its outputs
	$(RUN) -m pip install --quiet pandas  # as in Colab: a history is a table
	$(RUN) -m tests.test_tour

seeds: .venv/installed  ## both networks, seeds 0 to 9 (finished ones are skipped), evaluated into results/seeds: 5 hours
	for seed in 0 1 2 3 4 5 6 7 8 9; do for config in plain bn; do \
	    $(RUN) train.py --config $$config.yaml --seed $$seed --finish || exit; done; done
	$(RUN) evaluate.py checkpoints/plain checkpoints/bn --keep results/seeds --output results/seeds

resnet20: .venv/installed  ## ResNet-20 under bn.yaml's recipe, three seeds, into results/resnet20 (after `make seeds`): 4 hours
	for seed in 0 1 2; do $(RUN) train.py --config resnet20.yaml --seed $$seed --finish || exit; done
	$(RUN) evaluate.py checkpoints/resnet20 --keep results --output checkpoints/resnet20
	$(RUN) evaluate.py results/seeds/bn results/resnet20 --output results/resnet20
	rm results/resnet20/*.png  # nearly those of results/seeds

optimism: .venv/installed  ## weights chosen on the test set, at two schedules, into results/optimism (after `make seeds`): 5 hours
	for seed in 0 1 2 3 4; do for config in plain bn; do for schedule in cosine $$([ $$seed -gt 2 ] || echo constant); do \
	    $(RUN) train.py --config $$config.yaml --seed $$seed --set title=null --set data.protocol=test_as_validation \
	        --set schedule.name=$$schedule --run-dir checkpoints/optimism/$$config-$$schedule/seed$$seed --finish \
	        || exit; done; done; done
	$(RUN) evaluate.py checkpoints/optimism --keep results/optimism --output checkpoints/optimism
	$(RUN) evaluate.py results/seeds/plain results/seeds/bn results/optimism/*/ --output results/optimism
	rm results/optimism/*.png  # nearly those of results/seeds

studies: .venv/installed  ## all ten studies, two runs at a time (finished ones are skipped): 4 to 5 hours after `make seeds`
	for study in accuracy convergence gradients initialization initializer learning_rate learning_rate_sgd batch_size placement precision; do \
	    $(RUN) study.py --config $$study.yaml --workers 2 --results results || exit; done

recipes: .venv/installed  ## fast.yaml 30 times, the records two or three times, into results/recipes (finished ones are skipped): 7 hours
	for seed in $$(seq 0 29); do $(RUN) train.py --config fast.yaml --seed $$seed --finish || exit; done
	for seed in 0 1 2; do for config in plain_record record record_long; do \
	    $(RUN) train.py --config $$config.yaml --seed $$seed --finish || exit; done; done
	for seed in 0 1; do $(RUN) train.py --config resnet20_record.yaml --seed $$seed --finish || exit; done
	$(RUN) evaluate.py checkpoints/fast --keep results/recipes --output results/recipes/fast
	rm results/recipes/fast/seed*/curves.png  # of two epochs
	$(RUN) evaluate.py checkpoints/plain_record checkpoints/record --tta flip_shift --keep results/recipes --output results/recipes
	$(RUN) evaluate.py checkpoints/record checkpoints/record_long --tta flip_shift --keep results/recipes --output results/recipes/record_long
	$(RUN) evaluate.py checkpoints/record checkpoints/resnet20_record --tta flip_shift --keep results/recipes --output results/recipes/resnet20_record
	rm results/recipes/record_long/*.png results/recipes/resnet20_record/*.png  # nearly those of results/recipes

ablation: .venv/installed  ## what each choice of fast.yaml is worth, into results/ablation.md: half an hour
	$(RUN) study.py --config ablation.yaml --workers 2 --results results
	cp results/studies/ablation/verdict.md results/ablation.md

test: .venv/installed-dev lint  ## the whole test suite
	$(RUN) -m pytest

lint: .venv/installed-dev  ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: .venv/installed-bench  ## images a second beside stock Keras and PyTorch; a quiet machine, 20 minutes
	$(RUN) -m benchmarks.throughput

torture: .venv/installed-dev  ## every renaming of a file killed, and 200 SIGKILLs at random; each end compared bit for bit: 2 hours
	$(RUN) -m tests.torture --seed 1

fuzz: .venv/installed-dev  ## 20,500 hostile files for the readers of configurations, data and run directories: 15 minutes
	$(RUN) -m tests.fuzz

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	    || { echo "Python 3.11 to 3.13 is needed; name one with: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }

# Installed so that `experiment` and `models` can be imported from anywhere; -dev and -report and -bench are extras.
.venv/installed: requirements.txt pyproject.toml | .venv/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/installed-%: requirements.txt pyproject.toml | .venv/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@ .venv/installed

clean:  ## removes the environment, not the runs
	rm -rf .venv .pytest_cache .ruff_cache
