"""A trained network as files that other programs load, and back."""
