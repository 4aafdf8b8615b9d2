"""Terminal, files, figures and markup: the ways in which results are shown."""
