"""Images to train and judge on: datasets behind one small type."""
