"""What a run is and what is kept of it: its settings, recipes, records, folders and locks; no torch."""
