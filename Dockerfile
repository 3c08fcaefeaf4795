# math-hash serve, with PyTorch for CPUs; index, model and images are in the folder that is mounted at /data:
#   docker build --tag math_hash .
#   docker run --publish 8000:8000 --volume "$PWD:/data" --user "$(id -u)" --env MATH_HASH_TOKEN=SECRET \
#     math_hash photos.index --model RUN --images photos
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml requirements.txt README.md LICENSE ./
COPY math_hash math_hash
# the package is the folder that was just copied, so there is no version to pin
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu ".[serve]"

# any user may run it; caches of compiled code go here
ENV HOME=/tmp
USER 1000
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["math-hash", "serve", "--host", "0.0.0.0"]
