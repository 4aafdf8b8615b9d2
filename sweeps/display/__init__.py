"""Messages before, during and after a sweep."""
