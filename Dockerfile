# CPU (default):
#   docker build -t lightning-trackers .
# CUDA (the wheels bring their own CUDA libraries; the host needs only the driver and the NVIDIA container toolkit):
#   docker build -t lightning-trackers:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
# Run; results land in ./outputs:
#   docker run --rm --shm-size=2g -v "$PWD/outputs:/home/tracker/app/outputs" lightning-trackers +exp=siamrpn_sl
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG USER_ID=1000

# libgl1 and libglib2.0-0: OpenCV's wheel links them. git: the run's folder records the commit.
# hadolint ignore=DL3008  # a pinned Debian package vanishes with its next security update
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid "${USER_ID}" tracker
USER ${USER_ID}
WORKDIR /home/tracker/app
ENV PATH=/home/tracker/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    WANDB_MODE=offline

# torch first and in a layer of its own: it is the largest part and changes the least.
COPY --chown=tracker constraints.txt ./
RUN python3 -m venv /home/tracker/venv \
    && pip install "$(grep '^torch==' constraints.txt)" --index-url "${TORCH_INDEX}"

COPY --chown=tracker . .
RUN pip install --constraint constraints.txt --editable . \
    && python -c "import cv2" \
    && mkdir outputs

ENTRYPOINT ["python", "-m", "experiments.run"]
