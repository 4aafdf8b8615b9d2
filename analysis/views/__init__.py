"""Tables, figures and files that show a selection."""
