"""What runs on a machine: devices, precision, signals, worker processes and who is alive."""
