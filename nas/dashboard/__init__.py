"""Optuna Dashboard on one study: with notes, the incumbent as best trial, report and model."""
