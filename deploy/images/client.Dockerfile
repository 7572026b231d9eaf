# A site, with PyTorch for CPUs.  From the top of the repository:
#   docker build -f deploy/images/client.Dockerfile --target client --build-arg TORCH_INDEX=URL -t unisono-client .
# TORCH_INDEX is the package index that has PyTorch's CPU builds (their install page names it).  Without it the build
# that PyPI has is taken, which brings several GB of CUDA on x86; versions and hashes are locked either way.
# Your own task: FROM this image, and your file (docs/DEPLOYING.md).  The last target is the example's.
ARG BASE=python:3.11-slim-bookworm
ARG WHEELS=scratch

FROM ${WHEELS} AS wheels

FROM ${BASE} AS build
ARG PIP_OPTIONS=""
ARG TORCH_INDEX=""
SHELL ["/bin/sh", "-euc"]
WORKDIR /build
COPY deploy/images/requirements*.lock ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    python3 -m venv tools; \
    tools/bin/pip install ${PIP_OPTIONS} --require-hashes -r requirements-build.lock; \
    python3 -m venv /opt/unisono; \
    torch=requirements-torch.lock; \
    if [ -n "${TORCH_INDEX}" ]; then torch=requirements-torch-cpu.lock; fi; \
    /opt/unisono/bin/pip install ${PIP_OPTIONS} ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} \
        --require-hashes -r "${torch}"; \
    /opt/unisono/bin/pip install ${PIP_OPTIONS} --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY common common
COPY server server
COPY client client
ARG SOURCE_DATE_EPOCH=1577836800
RUN tools/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . ; \
    /opt/unisono/bin/pip install --no-index --no-deps dist/*.whl

FROM ${BASE} AS client
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="unisono-client" \
      org.opencontainers.image.description="A site of a Unisono federation, with PyTorch for CPUs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}"
# Without a machine-id: a site's state then says "the same machine" whichever image it is opened with.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/unisono /run/join && rm -f /etc/machine-id
COPY --from=build /opt/unisono /opt/unisono
ENV PATH="/opt/unisono/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=unisono \
    UNISONO_DIR=/var/lib/unisono \
    UNISONO_HEALTH_FILE=/tmp/unisono-health.json
WORKDIR /var/lib/unisono
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=30s --start-period=60s --retries=3 CMD ["unisono", "health", "--local"]
ENTRYPOINT ["unisono"]
CMD ["client"]

# The example of docker-compose.yml: scikit-learn carries its data, the wheel carries its task.
FROM client AS example
ARG PIP_OPTIONS=""
LABEL org.opencontainers.image.title="unisono-example"
USER 0:0
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,source=deploy/images/requirements-example.lock,target=/tmp/example.lock \
    HOME=/root pip install ${PIP_OPTIONS} --require-hashes -r /tmp/example.lock
USER 10001:10001
