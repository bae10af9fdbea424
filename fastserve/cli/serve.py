"""`serve`."""

from __future__ import annotations

from typing import Any

import click

from fastserve.errors import RequestError
from fastserve.server.settings import find_config

__all__ = ["serve"]


# Each option can be given as a variable too: --max-requests as FASTSERVE_MAX_REQUESTS.
@click.command(context_settings={"auto_envvar_prefix": "FASTSERVE"})
@click.option("-h", "--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("-p", "--port", type=int, default=6566, show_default=True, help="The port; 0 takes a free one.")
@click.option("-t", "--type", type=click.Choice(["http"]), default="http", show_default=True, expose_value=False)
@click.option("--no-access-log", is_flag=True, help="Do not log each request.")
@click.option("-w", "--workers", type=int, default=1, show_default=True, help="Processes; -1 is 2 x CPUs + 1.")
@click.option("--worker-connections", type=int, default=1000, show_default=True, help="Of one worker at a time.")
@click.option(
    "--max-requests", type=int, default=0, show_default=True, help="Replace a worker after so many; 0 is never."
)
@click.option("--max-requests-jitter", type=int, default=50, show_default=True, help="Up to so many requests more.")
@click.option("--keep-alive-timeout", type=int, default=30, show_default=True, help="Seconds.")
@click.option(
    "-r",
    "--registry_ttl_sec",
    type=float,
    help="Seconds between two looks at the registry; 0 is never. [default: what feature_store.yaml says]",
)
@click.option("-k", "--key", "tls_key_path", default="", envvar="FASTSERVE_KEY", help="PEM file with the TLS key.")
@click.option(
    "-c", "--cert", "tls_cert_path", default="", envvar="FASTSERVE_CERT", help="PEM file with the TLS certificate."
)
@click.option(
    "--timeout",
    type=float,
    default=0,
    show_default=True,
    help="Seconds that a read may take, then 504; X-Request-Timeout-Ms shortens it. 0 leaves it to the online store.",
)
@click.option("--header-timeout", type=float, default=10, show_default=True, help="Seconds for headers to come.")
@click.option("--body-timeout", type=float, default=60, show_default=True, help="Seconds for a body to come.")
@click.option("--max-body-bytes", type=int, default=64 << 20, show_default=True, help="Larger ones get 413; 0 is any.")
@click.option("--max-entities", type=int, default=100_000, show_default=True, help="Rows of a read; 0 is any.")
@click.option(
    "--max-in-flight", type=int, default=1000, show_default=True, help="Reads and writes at a time; more get 503."
)
@click.option(
    "--drain-seconds",
    type=float,
    default=0,
    show_default=True,
    help="After SIGTERM, how long to answer on while /readyz says 503.",
)
@click.option("--no-fast-lane", is_flag=True, help="Answer reads through ASGI too.")
@click.option("-m", "--metrics", is_flag=True, help="Answer Prometheus on a port of its own, without a key, too.")
@click.option("--metrics-port", type=int, default=8000, show_default=True, help="That port.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def serve(context: click.Context, /, no_access_log: bool, no_fast_lane: bool, **options: Any) -> None:
    """Answer over HTTP until SIGTERM or Ctrl-C."""
    from fastserve.server import run

    chdir, yaml_file, log_level = context.obj
    options |= {"access_log": not no_access_log, "fast_lane": not no_fast_lane, "log_level": log_level or "info"}
    try:
        chosen = run.ServeOptions(**options)
    except RequestError as exc:
        raise click.UsageError(str(exc), context) from None
    run.serve(find_config(chdir, yaml_file), chosen)
