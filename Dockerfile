# docker build --target cpu -t segnext . ; docker build --target cuda -t segnext:cuda .
# .ci/dockerfile.py runs the same steps without Docker.
# Compiled code is of the processor that it was built on; on another kind of processor it is compiled anew.
FROM python:3.11-slim-bookworm AS base
RUN apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
ENV SEGNEXT_HOME=/opt/segnext-cache PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /opt/segnext
COPY pyproject.toml README.md ./
COPY segnext segnext
COPY runners runners
COPY hydra_plugins hydra_plugins
COPY conf conf

FROM base AS cpu
ARG MODEL=tiny
ARG CROP=[512,512]
RUN pip install . && cd / && python -m runners.doctor warm=true warm_model=$MODEL warm_crop=$CROP device=cpu \
    && chmod -R a+rwX "$SEGNEXT_HOME"
WORKDIR /work
CMD ["python", "-m", "runners.doctor"]

# No GPU is at hand while an image is built: the core for the processor is compiled ahead, CUDA's part at the first start
# (keep it in a volume at /opt/segnext-cache).
FROM base AS cuda
ARG MODEL=tiny
ARG CROP=[512,512]
RUN pip install '.[cuda13]' && cd / && python -m runners.doctor warm=true warm_model=$MODEL warm_crop=$CROP device=cpu \
    && chmod -R a+rwX "$SEGNEXT_HOME"
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /opt/segnext-cache
WORKDIR /work
CMD ["python", "-m", "runners.doctor"]
