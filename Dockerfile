# The operations server alone: /metrics, /health and the REST API on port 9090.
#   docker build --tag flext-observability .
#   docker run --publish 127.0.0.1:9464:9090 \
#     --env FLEXT_OBSERVABILITY_SERVER_TOKEN=... flext-observability

FROM python:3.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/flext
# What changes rarely comes first: the layer is used again.
COPY requirements.txt ./
RUN /opt/flext/bin/pip install --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY examples/orders ./examples/orders
COPY src ./src
RUN /opt/flext/bin/pip install --no-deps .

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --user-group --no-create-home flext \
    && install --directory --owner=flext --group=flext --mode=0700 /var/lib/flext
COPY --from=build /opt/flext /opt/flext
ENV PATH=/opt/flext/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=9090 \
    FLEXT_OBSERVABILITY_SPOOL_DIR=/var/lib/flext
USER 10001:10001
WORKDIR /var/lib/flext
VOLUME /var/lib/flext
EXPOSE 9090
# Asks http://localhost:9090/metrics, with the token; PORT and PROMETHEUS_PATH count here too.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-m", "flext_observability.server", "--check"]
CMD ["python", "-m", "flext_observability.server"]
