"""Networks of the papers, and small ones for digits and arrays."""
