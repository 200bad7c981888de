"""From numbers to eyes: tables, figures and the report; no torch."""
