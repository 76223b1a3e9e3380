"""The web console for hospital staff: pages over selectors and services, with no tables of its own."""
