FROM node:24-slim AS htmx
WORKDIR /htmx
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM python:3.13-slim
# DATA_DIR is empty because a container keeps no files: all containers take the same SECRET_KEY from the environment.
ENV PYTHONUNBUFFERED=1 HOST=0.0.0.0 PORT=8000 DATA_DIR=
RUN useradd --system --no-create-home --shell /usr/sbin/nologin knock
WORKDIR /app
COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --require-hashes -r requirements.lock
COPY --from=htmx /htmx/node_modules/htmx.org/dist node_modules/htmx.org/dist
COPY alembic.ini ./
COPY migrations migrations
COPY static static
COPY templates templates
COPY web web
RUN python -m compileall -q web
USER knock
EXPOSE 8000
CMD ["python", "-m", "web"]
