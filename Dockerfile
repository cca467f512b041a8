# hadamem in a container: `docker build -t hadamem .`, then `docker run --rm hadamem` trains what `make train` trains, and
# `docker run --rm -v "$PWD/runs:/home/agent/runs" hadamem train --env CartPole-v1 --out runs/pole` anything else.
FROM python:3.11-slim

RUN useradd --create-home agent
WORKDIR /home/agent/hadamem
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# PyTorch for processors alone is a tenth of the size; for a GPU, build with --build-arg TORCH_INDEX=https://pypi.org/simple
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" --constraint constraints.txt ".[export,serve]"
USER agent
WORKDIR /home/agent
ENTRYPOINT ["hadamem"]
CMD ["showcase"]
