"""``python -m dwfbench``, where the console script is not on the path."""

from dwfbench.cli.app import main

main()
