# syntax=docker/dockerfile:1
# The image of both shapes of helm/certserve.
#   docker build -t certserve:0.1.0 .
#   docker build -t certserve:0.1.0-gpu --build-arg VARIANT=gpu .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Everything is installed into one folder here; the image that runs takes that folder and no build tool.
FROM ${PYTHON_IMAGE} AS build
# cpu or gpu: exactly one, for the two builds of ONNX Runtime write into one folder.
ARG VARIANT=cpu
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/certserve
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY certify certify
COPY export export
COPY protos protos
COPY serving serving
# The CUDA libraries of the gpu variant come as wheels; the driver is the node's.
RUN case "${VARIANT}" in \
        cpu) set -- '.[cpu]' ;; \
        gpu) set -- '.[gpu]' ;; \
        *) echo "VARIANT is ${VARIANT}; expected cpu or gpu" >&2; exit 1 ;; \
    esac \
    && /opt/certserve/bin/pip install -c constraints.txt "$@" \
    && /opt/certserve/bin/python -c 'from serving.runtimes import onnx_session; onnx_session.check_one_distribution()' \
    && ln -s "$(/opt/certserve/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" /opt/certserve/site

FROM ${PYTHON_IMAGE}
# Any other user id will do, too: OpenShift takes one of its own, in group 0, which may write to the home folder.
RUN groupadd --gid 10001 certserve \
    && useradd --uid 10001 --gid 10001 --create-home certserve \
    && mkdir -p /home/certserve/.local/state \
    && chgrp -R 0 /home/certserve \
    && chmod -R g=u /home/certserve
COPY --from=build /opt/certserve /opt/certserve
COPY models /models
# The root file system may be read-only: nothing is compiled beside the code. Ray asks for the name of the user, which an
# arbitrary one has not. ONNX Runtime would report to its makers.
ENV PATH=/opt/certserve/bin:${PATH} \
    HOME=/home/certserve \
    USER=certserve \
    LD_LIBRARY_PATH=/opt/certserve/site/nvidia/cu13/lib:/opt/certserve/site/nvidia/cudnn/lib:/opt/certserve/site/tensorrt_libs \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /home/certserve
USER 10001:10001
EXPOSE 8000 8001 8002
ENTRYPOINT ["certserve"]
CMD ["serve", "/models", "--local", "--host", "0.0.0.0"]
