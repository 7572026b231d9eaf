# The coordinator; also the operator's commands.  No PyTorch.  From the top of the repository:
#   docker build -f deploy/images/coordinator.Dockerfile -t unisono-coordinator .
# A release pins the base by its digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm
# For a build without a package index, an image with nothing but wheels at its root:
#   --build-arg WHEELS=my-wheels --build-arg PIP_OPTIONS="--no-index --find-links=/wheels"
ARG WHEELS=scratch

FROM ${WHEELS} AS wheels

FROM ${BASE} AS build
ARG PIP_OPTIONS=""
SHELL ["/bin/sh", "-euc"]
WORKDIR /build
COPY deploy/images/requirements.lock deploy/images/requirements-build.lock ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    python3 -m venv tools; \
    tools/bin/pip install ${PIP_OPTIONS} --require-hashes -r requirements-build.lock; \
    python3 -m venv --without-pip /opt/unisono; \
    tools/bin/pip --python /opt/unisono/bin/python install ${PIP_OPTIONS} --require-hashes -r requirements.lock; \
    find /opt/unisono -type d -name tests -path '*/numpy/*' -prune -exec rm -r {} +
COPY pyproject.toml README.md LICENSE ./
COPY common common
COPY server server
COPY client client
ARG SOURCE_DATE_EPOCH=1577836800
RUN tools/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . ; \
    tools/bin/pip --python /opt/unisono/bin/python install --no-index --no-deps dist/*.whl

FROM ${BASE}
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="unisono-coordinator" \
      org.opencontainers.image.description="Coordinator of a Unisono federation, and its operator's commands" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}"
# Made here so that a new volume belongs to the user.  A client's image has no coordinator's folder.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/unisono /var/lib/unisono/coordinator /var/lib/unisono/admin \
        /run/ops /run/join /models && \
    rm -f /etc/machine-id
COPY --from=build /opt/unisono /opt/unisono
ENV PATH="/opt/unisono/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=unisono \
    UNISONO_DIR=/var/lib/unisono
WORKDIR /var/lib/unisono
USER 10001:10001
EXPOSE 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=30s --start-period=20s --retries=3 CMD ["unisono", "health", "--local"]
ENTRYPOINT ["unisono"]
CMD ["serve"]
