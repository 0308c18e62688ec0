# The image of the service. Use a base image from a mirror by: --build-arg PYTHON_IMAGE=…
ARG PYTHON_IMAGE=python:3.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# The virtual environment has no pip, which only the build needs. pip compiles what it installs: at run time the
# file system is read-only.
RUN python -m venv --without-pip /opt/jobstate
COPY requirements.lock ./
RUN python -m pip --python /opt/jobstate install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m pip --python /opt/jobstate install --no-deps ./src .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="jobstate" \
      org.opencontainers.image.description="Stores the state of background jobs in Redis and exposes it over REST." \
      org.opencontainers.image.version="0.3.0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/jobstate /opt/jobstate
ENV PATH=/opt/jobstate/bin:$PATH PYTHONUNBUFFERED=1 JOBSTATE_HOST=0.0.0.0 JOBSTATE_PORT=8000
USER 10001:10001
EXPOSE 8000
# http.client, because urllib would use a proxy from the environment.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["python", "-c", \
  "import http.client, os, sys; \
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ['JOBSTATE_PORT']), timeout=4); \
connection.request('GET', '/ready'); \
sys.exit(connection.getresponse().status != 200)"]
ENTRYPOINT ["jobstate"]
