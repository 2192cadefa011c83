"""Studies in experiment trackers: what is kept of one, and an adapter for each tracker."""
