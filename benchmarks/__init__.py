"""Scripts that measure what is claimed, and in ``naive`` what they measure it against."""
