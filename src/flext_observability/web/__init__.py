"""Doors to the outside: receivers and, later, pages and endpoints."""
