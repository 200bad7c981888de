"""What every room may use: errors, files, text, plug-ins and the machine; nothing of ours, no torch."""
