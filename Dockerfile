# The server alone, or with the services of docker-compose.yml. By itself it runs an embedded
# PostgreSQL in DATA_DIR: give that a volume, and no DATABASE_URL.
#
#   docker build -t bulkhead-trio .
#   docker run -p 127.0.0.1:8080:8080 -v bulkhead:/var/lib/bulkhead bulkhead-trio

FROM python:3.13-slim-bookworm AS build
WORKDIR /src
# Pins what is installed, and what builds it.
ENV PIP_CONSTRAINT=/src/constraints.txt \
    PIP_BUILD_CONSTRAINT=/src/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/bulkhead
COPY constraints.txt pyproject.toml README.md init-db.sql ./
COPY bulkhead_trio bulkhead_trio
RUN /opt/bulkhead/bin/pip install .

FROM python:3.13-slim-bookworm
# PostgreSQL needs its user to have a name.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/bulkhead \
        --shell /usr/sbin/nologin bulkhead \
    && install -d -o bulkhead -g bulkhead -m 0700 /var/lib/bulkhead
COPY --from=build /opt/bulkhead /opt/bulkhead
ENV PATH=/opt/bulkhead/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    API_HOST=0.0.0.0 \
    DATA_DIR=/var/lib/bulkhead
USER 10001:10001
VOLUME /var/lib/bulkhead
EXPOSE 8080
# Alive, not ready: a database that is away is no reason to end the server.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; server = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('API_PORT') or 8080), timeout=2); server.request('GET', '/health'); sys.exit(server.getresponse().status != 200)"]
CMD ["bulkhead-trio", "serve"]
