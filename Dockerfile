# The image of a cluster: Ray's own, with the packages of this project at the versions that its tests pass with.
#   docker build --build-arg PLATFORM=gpu --tag REGISTRY/lossgrid:gpu .
#   docker build --build-arg PLATFORM=cpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu --tag REGISTRY/lossgrid:cpu .
# Python, Ray and the packages must be the same on the head and on all workers: build both images from the same checkout.
# No speech and no key goes in (.dockerignore lets only code through). Recipe only: not built by the tests, which have no
# engine for it. Expect about 10 GB for gpu (CUDA twice: Ray's base image and torch bring their own) and 4 GB for cpu.
ARG PLATFORM=gpu
FROM rayproject/ray:2.60.0-py311-${PLATFORM}

# Which build of torch depends on the machine, so constraints.txt leaves it out. The default index has torch for CUDA.
ARG TORCH=2.13.0
ARG TORCH_INDEX=https://pypi.org/simple

# Made here and not by WORKDIR, which would give it to root.
RUN mkdir -p /home/ray/lossgrid
WORKDIR /home/ray/lossgrid
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" "torch==${TORCH}"

# Packages before code: a change of the code builds in seconds and pushes megabytes.
COPY --chown=ray:users pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']))" > /tmp/needed.txt \
    && pip install --no-cache-dir --constraint constraints.txt --requirement /tmp/needed.txt \
    && rm /tmp/needed.txt
# With what the autoscaler talks to clouds: boto3 for AWS, Google's client for GCP.
RUN pip install --no-cache-dir --constraint constraints.txt boto3 google-api-python-client

COPY --chown=ray:users . .
# Not editable: the folder that a job brings along comes before it, so that `--working-dir .` wins.
RUN pip install --no-cache-dir --no-deps . \
    && python -c "import ray, torch, launcher.cli, trainables.reductions; assert ray.__version__ == '2.60.0', ray.__version__"

ENV RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
