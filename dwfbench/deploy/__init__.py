"""Trained networks as files: compact and sparse forms, export, and measurement."""
