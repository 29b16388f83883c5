# The orchestrator for CPUs: docker build -f deploy/docker/cpu.Dockerfile -t orchestrator:0.1.0 .
FROM python:3.12-slim-bookworm AS build
# An index with PyTorch's builds for CPUs alone makes the image about 5 GB smaller; see README.md.
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/orchestrator
ENV PATH=/opt/orchestrator/bin:$PATH
WORKDIR /build
COPY constraints.txt ./
# In a layer of its own: it is by far the largest, and changes least. constraints.txt pins the versions.
# hadolint ignore=DL3013
RUN pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY orchestrator orchestrator
# hadolint ignore=DL3013
RUN pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} .

FROM python:3.12-slim-bookworm
# The compiler is for training.compile, which builds kernels while it runs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 orchestrator \
    && useradd --uid 10001 --gid 10001 --create-home --shell /bin/bash orchestrator \
    && install -d -o 10001 -g 10001 /data
COPY --from=build /opt/orchestrator /opt/orchestrator
COPY --chmod=755 deploy/secrets-from-files.sh /usr/local/bin/secrets-from-files
ENV PATH=/opt/orchestrator/bin:$PATH \
    MLFLOW_DISABLE_TELEMETRY=true \
    ORCHESTRATOR_HOME=/data \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
USER 10001:10001
WORKDIR /data
# The package loads and its home folder can be read; whether an experiment gets on, orchestrator status tells.
HEALTHCHECK --interval=60s --timeout=20s --start-period=20s CMD ["orchestrator", "list"]
ENTRYPOINT ["secrets-from-files", "orchestrator"]
CMD ["--help"]
