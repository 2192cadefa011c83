"""A study as one self-contained HTML page: records -> tables -> figures -> page -> file."""
