# MLflow's server on PostgreSQL: docker build -f deploy/docker/mlflow.Dockerfile -t orchestrator-mlflow:0.1.0 .
FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/mlflow
ENV PATH=/opt/mlflow/bin:$PATH
WORKDIR /build
COPY constraints.txt ./
# constraints.txt pins the versions; boto3 is for artifacts in an object store.
# hadolint ignore=DL3013
RUN pip install --constraint constraints.txt "mlflow[auth]" psycopg2-binary boto3

FROM python:3.12-slim-bookworm
RUN groupadd --gid 10001 mlflow \
    && useradd --uid 10001 --gid 10001 --create-home mlflow \
    && install -d -o 10001 -g 10001 /data
COPY --from=build /opt/mlflow /opt/mlflow
COPY --chmod=755 deploy/secrets-from-files.sh /usr/local/bin/secrets-from-files
COPY --chmod=755 deploy/mlflow/serve.sh /opt/mlflow/
COPY --chmod=644 deploy/mlflow/basic_auth.ini /opt/mlflow/
ENV PATH=/opt/mlflow/bin:$PATH \
    MLFLOW_ARTIFACTS=/data/artifacts \
    MLFLOW_HOST=0.0.0.0 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=5)"]
ENTRYPOINT ["secrets-from-files", "/opt/mlflow/serve.sh"]
