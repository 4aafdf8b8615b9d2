"""JSON, counted nouns, standard streams and consoles, without torch."""
