"""Reports, and Optuna Dashboard with notes and the incumbent as best trial, on one study or all."""
