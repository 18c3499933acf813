"""The services: thin rooms over entities, stores and OpenTelemetry."""
