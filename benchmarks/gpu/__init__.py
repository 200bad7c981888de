"""One command for a machine whose GPU is lent for minutes: tests, speed, curves, in the order of what they are worth.

`python -m benchmarks.gpu` is the command, `pack` puts together what has to travel there, and `rehearsal` runs the
command on a CPU from such a pack. benchmarks/README.md says how to use them.
"""
