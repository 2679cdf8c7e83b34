# A laptop's or a server's CPUs. From the repository's root:
#   docker build -f docker/cpu.Dockerfile -t noise-harness:cpu --build-arg TORCH_INDEX=URL .
#   docker run --rm -v "$PWD/runs:/runs" noise-harness:cpu -m noise=none,symnoise alpha=5 output_dir=/runs
# TORCH_INDEX: the package index of PyTorch's CPU builds; without it Linux gets the CUDA build, 5 GB more.
FROM python:3.12-slim-bookworm

ARG TORCH_INDEX=""
ARG EXTRAS="report"

WORKDIR /opt/noise-harness
COPY pyproject.toml constraints.txt README.md LICENSE ./
# torch comes first and from its own index, so that a change of the code does not fetch it again.
RUN grep '^torch==' constraints.txt > torch.txt \
    && pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt
COPY conf conf
COPY harness harness
COPY analysis analysis
RUN pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]"

RUN useradd --create-home --uid 1000 researcher && mkdir /runs && chown 1000 /runs
USER 1000
WORKDIR /runs
ENTRYPOINT ["python", "-m", "harness"]
CMD ["--help"]
