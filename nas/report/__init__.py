"""A study as one self-contained HTML page; a file per subject, with its table, figure and words."""
