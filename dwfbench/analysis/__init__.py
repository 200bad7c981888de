"""From records to numbers: curves, their comparison, and the course of training; no torch."""
