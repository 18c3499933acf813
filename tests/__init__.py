"""The test suite of flext-observability."""
