"""One training: its flags, data, network, optimizer, folder and results."""
