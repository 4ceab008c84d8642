# The target in a container. Without Meltano:
#
#   docker build --build-arg VERSION=1.2.3 --tag target-salesloft .
#   tap-yours | docker run --rm --interactive --env-file .env --volume target-salesloft-state:/state target-salesloft
#
# /state holds what outlives a run: the OAuth token, and the failed records with people's data in them.
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir "uv>=0.9,<1"
WORKDIR /src
COPY . .
# The version comes from Git's tags, which are not here. Left out, it is the fallback of pyproject.toml.
ARG VERSION
# uv, not pip, so that the packages are those of [tool.uv] exclude-newer, which the tests have seen.
RUN SETUPTOOLS_SCM_PRETEND_VERSION_FOR_TARGET_SALESLOFT="$VERSION" \
    UV_PROJECT_ENVIRONMENT=/opt/target-salesloft \
    uv sync --no-cache --no-dev --no-editable --compile-bytecode --no-python-downloads

FROM python:3.13-slim
COPY --from=build /opt/target-salesloft /opt/target-salesloft
RUN useradd --uid 10001 --create-home target && install --directory --owner=target --group=target --mode=700 /state
# hadolint ignore=DL3064 # where the token is kept is no secret
ENV PATH="/opt/target-salesloft/bin:$PATH" \
    TARGET_SALESLOFT_TOKEN_PATH=/state/token.json \
    TARGET_SALESLOFT_FAILED_RECORDS_DIR=/state/failed_records
USER 10001
WORKDIR /state
VOLUME /state
# The settings are those of the environment; a file of further ones may follow: --config /config.json.
ENTRYPOINT ["target-salesloft", "--config", "ENV"]
