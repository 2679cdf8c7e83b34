# NVIDIA GPUs: torch's build of the package index brings CUDA along, the host's driver comes with --gpus. From the root:
#   docker build -f docker/cuda.Dockerfile -t noise-harness:cuda .
#   docker run --rm --gpus all --ipc=host -v "$PWD/runs:/runs" noise-harness:cuda model=smollm2_135m_pip noise=symnoise output_dir=/runs
FROM python:3.12-slim-bookworm

ARG EXTRAS="judge,qlora,report"

# torch.compile and FlexAttention build their kernels with the system's compiler.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/noise-harness
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN grep '^torch==' constraints.txt > torch.txt && pip install --no-cache-dir -r torch.txt
COPY conf conf
COPY harness harness
COPY analysis analysis
RUN pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]"

ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --create-home --uid 1000 researcher && mkdir /runs && chown 1000 /runs
USER 1000
WORKDIR /runs
ENTRYPOINT ["python", "-m", "harness"]
CMD ["--help"]
