"""The files under nas/ that are programs, or belong to one: they import the commands."""

ENTRIES = {
    "__main__.py",
    "entry.py",
    "count.py",
    "doctor.py",
    "log.py",
    "predict.py",
    "studies.py",
    "train.py",
    "dashboard/__main__.py",
    "export/__main__.py",
    "final/__main__.py",
    "report/__main__.py",
    "search/__main__.py",
}
