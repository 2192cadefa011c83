# The checks of .ci/run, and the files that are generated.
.PHONY: check test docs report

check:
	ruff format --check .
	ruff check .
	mypy
	pytest

test:
	pytest

docs:
	python -m nas.commands.reference > docs/commands.md

report:
	python -m nas.report --study digits-example
