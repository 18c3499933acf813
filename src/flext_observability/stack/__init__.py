"""The monitoring stack as files: Prometheus, Alertmanager, Grafana."""
