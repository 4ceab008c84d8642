# Runs the target in a container, without Meltano:
#
#   docker build --build-arg VERSION=1.2.3 --tag target-salesloft .
#   tap-yours | docker run --rm --interactive --env-file .env --volume target-salesloft-state:/state target-salesloft
#
# /state holds what must survive a run: the ledger, the OAuth token, and the failed records, which contain personal data.
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir "uv>=0.9,<1"
WORKDIR /src
COPY . .
# The Git tags are not in the build context. Without this argument, the version is the fallback in pyproject.toml.
ARG VERSION
# uv instead of pip, so that [tool.uv] exclude-newer applies and the package versions are those that were tested.
RUN SETUPTOOLS_SCM_PRETEND_VERSION_FOR_TARGET_SALESLOFT="$VERSION" \
    UV_PROJECT_ENVIRONMENT=/opt/target-salesloft \
    uv sync --no-cache --no-dev --no-editable --extra postgres --compile-bytecode --no-python-downloads

FROM python:3.13-slim
COPY --from=build /opt/target-salesloft /opt/target-salesloft
RUN useradd --uid 10001 --create-home target && install --directory --owner=target --group=target --mode=700 /state
ENV PATH="/opt/target-salesloft/bin:$PATH" \
    XDG_STATE_HOME=/state \
    TARGET_SALESLOFT_FAILED_RECORDS_DIR=/state/failed_records
USER 10001
WORKDIR /state
VOLUME /state
# Settings come from the environment. To add a file, pass --config /config.json.
ENTRYPOINT ["target-salesloft", "--config", "ENV"]
