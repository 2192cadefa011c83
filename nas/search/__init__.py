"""How a search decides and trains; `python -m nas.search` is its command."""
