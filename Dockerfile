# interlingua serve in a container: docs/serve.md.
#   docker build -t interlingua .
#   docker run -p 8000:8000 -e INTERLINGUA_API_KEY=secret -v ./models:/models/own -v ~/.cache/interlingua:/models/cache interlingua
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

# cuda: also NVIDIA's libraries that CTranslate2 looks for (docker run --gpus all)
ARG DEVICE=cpu
# an index with PyTorch's builds for CPUs, which saves gigabytes; empty: the default index's build
ARG TORCH_INDEX=
ARG PYTHON
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    INTERLINGUA_CACHE=/models/cache \
    HF_HOME=/models/hub \
    LD_LIBRARY_PATH=/usr/local/lib/python${PYTHON}/site-packages/nvidia/cublas/lib:/usr/local/lib/python${PYTHON}/site-packages/nvidia/cudnn/lib

WORKDIR /app
COPY requirements.lock torch.lock ./
RUN python -m pip install --no-deps --requirement requirements.lock
RUN python -m pip install --requirement torch.lock ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
RUN if [ "$DEVICE" = cuda ]; then python -m pip install nvidia-cublas-cu12 "nvidia-cudnn-cu12==9.*"; fi
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
RUN python -m pip install --no-deps .

RUN useradd --create-home --uid 1000 interlingua
RUN mkdir -p /models/cache /models/hub /models/own /app/runs && chown -R interlingua /models /app/runs
USER interlingua
VOLUME /models
EXPOSE 8000

HEALTHCHECK --interval=30s --timeout=15s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=12)"]
ENTRYPOINT ["interlingua", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--models", "/models/own"]
