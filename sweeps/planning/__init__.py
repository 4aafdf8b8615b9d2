"""Settings, plan, schedule and cost of a sweep."""
