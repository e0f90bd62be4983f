"""Tests: promises, each from outside."""

import os

# Every Prefect server that tests start, and every client of it, before Prefect reads its settings.
os.environ["PREFECT_SERVER_API_AUTH_STRING"] = os.environ["PREFECT_API_AUTH_STRING"] = "tests:not-a-secret"
# They start hundreds of Pythons, which would each compile every module of the product anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
