"""Where this repository is, with its documents and the study that an earlier version wrote."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "studies"
EXAMPLE = STUDIES / "digits-example.db"
