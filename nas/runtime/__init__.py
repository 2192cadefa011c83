"""What runs on a machine: its devices, their precision, and the signals a process gets."""
