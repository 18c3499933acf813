"""The library against a real OTLP server over a socket."""
