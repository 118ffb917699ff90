"""Formats (pure: bytes and messages) and two servers that only route."""
