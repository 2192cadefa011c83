"""A search as an Optuna study: settings, storage, proposals, the loop, and its records."""
