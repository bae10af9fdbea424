"""`vectors build|status|drop`: the precomputed vectors of feature services."""

from __future__ import annotations

import click

from fastserve.cli.features import suggested_service
from fastserve.cli.frame import open_store
from fastserve.cli.materialize import show_log_lines
from fastserve.errors import FeatureServiceNotFoundException
from fastserve.feature_store import FeatureStore
from fastserve.vector_admin import VectorStatus
from fastserve.vectors import Build

__all__ = ["vectors"]

NOT_READ = "not read: the service has no precompute_online=True, or views that are computed when they are read"
UNBUILT = {
    "views": "it is read from its views",
    "feast": "Feast's are read if there are any",
    "error": "it cannot be read until they are",
}


@click.group()
def vectors() -> None:
    """Precomputed vectors of feature services: build, look at and drop them."""


@vectors.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--batch-size", type=click.IntRange(1), default=1000, help="Entities to read at a time. [default: 1000]")
@click.option("--ahead", is_flag=True, help="Also for what the repository defines and `apply` will bring.")
@click.pass_context
def build(context: click.Context, services: tuple[str, ...], batch_size: int, ahead: bool) -> None:
    """Build the vectors of services anew; by default of all that have precompute_online=True.

    Reads go on with the old vectors until all new ones are there.
    """
    show_log_lines(context)
    with open_store(context) as store:
        for name in services or _precomputed(store, "build it"):
            _check(store, name)
            count = store.precompute_feature_service(name, batch_size, ahead=ahead)
            click.echo(f"{name}: {count} vectors")
            if not store.get_feature_service(name).precompute_online:
                click.echo(f"    {NOT_READ}")


@vectors.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.pass_context
def status(context: click.Context, services: tuple[str, ...]) -> None:
    """Show what there is of services' vectors; the keys of the whole store are walked to count them."""
    with open_store(context) as store:
        for name in services or _precomputed(store, "look at it"):
            _check(store, name)
            for line in _lines(name, store.vector_status(name)):
                click.echo(line)


@vectors.command()
@click.argument("service")
@click.pass_context
def drop(context: click.Context, service: str) -> None:
    """Delete the vectors of a service; reads of it fail until they are built again, or it needs none any more."""
    with open_store(context) as store:
        if not store.drop_vectors(service):
            raise click.ClickException(f"feature service {service} has no vectors here")
    click.echo(f"Deleted the vectors of {service}")


def _check(store: FeatureStore, name: str) -> None:
    try:
        store.get_feature_service(name)
    except FeatureServiceNotFoundException as exc:
        raise click.ClickException(f"{exc}{suggested_service(store, name)}") from None


def _precomputed(store: FeatureStore, verb: str) -> list[str]:
    found = [service.name for service in store.list_feature_services() if service.precompute_online]
    if not found:
        raise click.ClickException(f"no feature service has precompute_online=True; name one to {verb} all the same")
    return found


def _lines(name: str, found: VectorStatus) -> list[str]:
    current, building = found.marker.current, found.marker.building
    if current is None:
        lines = [f"{name}: none are built here; {UNBUILT[found.unbuilt]}"]
    else:
        lines = [f"{name}: {found.stored} vectors, {_of(current)}; built at {current.built_at}, {current.count} then"]
        lines += [] if found.is_read else [f"    {NOT_READ}"]
    if building is not None:
        lines.append(f"    a build ({_of(building)}) is under way, or was interrupted")
    return lines + [f"    stale: {reason}" for reason in found.lacking]


def _of(build: Build) -> str:
    groups = "; ".join(", ".join(group.join_keys) for group in build.groups)
    return f"format {build.format}, by {groups}"
