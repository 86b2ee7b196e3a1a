# The service for a given PostgreSQL: set DATABASE_URL and JWT_SECRET. SIGTERM stops it gracefully.
# docs/operations.md explains how to run it, and compose.yaml is an example.
FROM python:3.13-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --requirement requirements.txt
COPY . .
# The user may not write here, so without this every start would compile all modules again.
RUN python -m compileall -q run.py service sql
USER 65534:65534
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"PORT\") or 3000}/health')"]
CMD ["python", "run.py"]
