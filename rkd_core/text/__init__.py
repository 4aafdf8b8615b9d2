"""Text in and out: JSON, counted nouns, standard streams and consoles. Imports no torch."""
