# The orchestrator for NVIDIA GPUs: docker build -f deploy/docker/cuda.Dockerfile -t orchestrator:0.1.0-cuda .
# PyTorch's wheels bring CUDA's libraries, so the base is the smallest: it asks for the driver, no more.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS build
ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/orchestrator
ENV PATH=/opt/orchestrator/bin:$PATH
WORKDIR /build
COPY constraints.txt ./
# In a layer of its own: it is by far the largest, and changes least. constraints.txt pins the versions.
# hadolint ignore=DL3013
RUN pip install --constraint constraints.txt torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY orchestrator orchestrator
# hadolint ignore=DL3013
RUN pip install --constraint constraints.txt .

FROM nvidia/cuda:13.0.1-base-ubuntu24.04
ENV DEBIAN_FRONTEND=noninteractive
# The compiler is for training.compile, which builds kernels while it runs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3 python3-dev \
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
