# An image whose entry point is the command cyclegan. The working directory is /work; mount a folder there.
#   docker build -t cyclegan_tf .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" cyclegan_tf train --preset=demo
# For NVIDIA GPUs (the host needs the NVIDIA Container Toolkit):
#   docker build -t cyclegan_tf:gpu --build-arg EXTRA=gpu .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/work" cyclegan_tf:gpu train --dataset=horse2zebra
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build==1.6.1 && python -m build --wheel --outdir /dist

FROM python:3.12-slim
# One of the extras in setup.cfg.
ARG EXTRA=""
COPY --from=build /dist /dist
RUN pip install --no-cache-dir "$(echo /dist/*.whl)${EXTRA:+[$EXTRA]}" && rm -r /dist
# Downloaded data sets and weights go to the home folder, so it must be writable for any --user.
ENV HOME=/work
WORKDIR /work
ENTRYPOINT ["cyclegan"]
CMD ["--help"]
