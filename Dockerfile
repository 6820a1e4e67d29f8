# One image for the worker, the scheduler and the relay; it runs as an ordinary user.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1

RUN useradd --create-home --uid 10001 overnight && install -d -o 10001 /documents
WORKDIR /app

COPY requirements.txt ./
RUN pip install --require-hashes -r requirements.txt

COPY . .
RUN pip install --no-deps .

USER 10001
WORKDIR /home/overnight
CMD ["overnight", "worker"]
