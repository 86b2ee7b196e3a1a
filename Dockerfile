# The service for a given PostgreSQL: set DATABASE_URL and JWT_SECRET. SIGTERM stops it gracefully.
FROM python:3.13-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check --requirement requirements.txt
COPY . .
USER 65534:65534
EXPOSE 3000
CMD ["python", "run.py"]
