"""The typed service, by version."""
