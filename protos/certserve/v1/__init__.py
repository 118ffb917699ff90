"""Version 1 of the typed service."""
