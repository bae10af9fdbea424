"""The command `fastserve`.

init                    a new repository
apply, plan, teardown   definitions -> registry and online store; what that would change; and away with it
materialize             loads views from their sources; materialize-incremental: what came since the last time
get                     features of some entities: a table on a terminal, else one line of JSON
get-online-features     the same with Feast's options and layout
plan FEATURES           what such a read fetches
vectors                 precomputed feature services: build, status, drop
serve                   the HTTP server
bench                   how long reads take here, and what of it is the store's
entities, ...           what the registry holds: list, describe; registry-dump, delete
configuration, version  as they say

An error is one line on stderr; the exit status is 2 for a wrong command line, 130 after Ctrl-C, else 1.
"""

from __future__ import annotations

from fastserve.cli import apply, bench, init, materialize, objects, read, registry, serve, vectors, version
from fastserve.cli.entry import main
from fastserve.cli.frame import cli

__all__ = ["cli", "main"]

for _command in (
    apply.apply,
    apply.plan,
    apply.teardown,
    bench.bench,
    init.init,
    materialize.materialize,
    materialize.materialize_incremental,
    read.get,
    read.get_online_features,
    registry.configuration,
    registry.delete,
    registry.endpoint,
    registry.registry,
    registry.registry_dump,
    serve.serve,
    vectors.vectors,
    version.version,
    *objects.GROUPS.values(),
):
    cli.add_command(_command)
