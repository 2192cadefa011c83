"""Training: recipes as data, batches made on the device, one loop, checkpoints that continue it."""
