"""From a study to one network: the best designs trained in full, one chosen, tested once."""
