"""Speed measurements: ratios taken within one run, so that they mean the same on every machine. Not tests.

``python -m benchmarks`` prints every table, ``python -m benchmarks.startup`` (scoring, training, memory) one of them.
"""
