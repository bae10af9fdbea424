"""`fastserve permissions`: what Feast's `permissions` prints for the same registry."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fastserve.registry import schema_pb2 as pb
from fastserve.registry.lists import remove_project
from tests import goldens
from tests.commands import Cli

Spec = pb.PermissionSpec

READERS = Spec(
    name="readers",
    types=[Spec.FEATURE_VIEW, Spec.ON_DEMAND_FEATURE_VIEW],
    name_patterns=["cust.*", "v"],
    required_tags={"x": "y", "team": "risk"},
    actions=[Spec.READ_OFFLINE, Spec.READ_ONLINE],
    policy=pb.Policy(role_based_policy=pb.RoleBasedPolicy(roles=["reader", "admin"])),
    tags={"env": "prod"},
)
WRITERS = Spec(
    name="writers",
    types=[Spec.ENTITY],
    actions=[Spec.WRITE_ONLINE],
    policy=pb.Policy(role_based_policy=pb.RoleBasedPolicy(roles=["writer", "admin"])),
)
GROUPS = Spec(
    name="groups",
    types=[Spec.ENTITY],
    actions=[Spec.DESCRIBE],
    policy=pb.Policy(group_based_policy=pb.GroupBasedPolicy(groups=["g1"])),
    tags={"env": "dev"},
)


def bank_with(tmp_path: Path, *specs: Spec, project: str = "bank") -> Path:
    """Return a repository whose registry is the bank's, with permissions."""
    folder = goldens.copy_bank(tmp_path / "bank", {"type": "sqlite", "path": "data/online.db"})
    path = folder / "data/registry.db"
    registry = pb.Registry.FromString(path.read_bytes())
    for spec in specs:
        registry.permissions.add(spec=spec).spec.project = project
    path.write_bytes(registry.SerializeToString())
    return folder


@pytest.fixture
def bank(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.delenv("FEATURE_STORE_YAML_BASE64", raising=False)
    return Cli(bank_with(tmp_path, READERS, WRITERS, GROUPS), capsys, monkeypatch)


def said(cli: Cli, *arguments: str) -> list[str]:
    run = cli("permissions", *arguments)
    assert (run.status, run.err) == (0, ""), run
    return [line.rstrip() for line in run.out.splitlines()]


LISTED = """\
NAME     TYPES                NAME_PATTERNS    ACTIONS       ROLES    REQUIRED_TAGS
readers  FeatureView          cust.*           READ_OFFLINE  admin    team : risk
         OnDemandFeatureView  v                READ_ONLINE   reader   x : y
writers  Entity               -                WRITE_ONLINE  admin    -
                                                             writer
groups   Entity               -                DESCRIBE      -        -
"""


def test_a_list(bank: Cli) -> None:
    assert said(bank, "list") == LISTED.splitlines()


def test_tags_choose(bank: Cli) -> None:
    lines = said(bank, "list", "--tags", "env:dev")
    assert [line.split()[0] for line in lines] == ["NAME", "groups"]
    assert len(said(bank, "list", "--tags", "env:dev,team:x")) == 1


def test_a_description(bank: Cli) -> None:
    assert yaml.safe_load(bank("permissions", "describe", "readers").out) == {
        "spec": {
            "name": "readers",
            "types": ["FEATURE_VIEW", "ON_DEMAND_FEATURE_VIEW"],
            "namePatterns": ["cust.*", "v"],
            "requiredTags": {"team": "risk", "x": "y"},
            "actions": ["READ_OFFLINE", "READ_ONLINE"],
            "policy": {"roleBasedPolicy": {"roles": ["reader", "admin"]}},
            "tags": {"env": "prod"},
        }
    }
    assert bank("permissions", "describe", "nope").error(1) == "Permission nope does not exist in project bank"


ROLES = """\
+-------------+
| ROLE NAME   |
+=============+
| admin       |
+-------------+
| reader      |
+-------------+
| writer      |
+-------------+
"""


def test_roles(bank: Cli) -> None:
    assert said(bank, "list-roles") == ROLES.splitlines()


def test_a_dump(bank: Cli) -> None:
    found = bank("registry-dump").json()["permissions"]
    assert [permission["spec"]["name"] for permission in found] == ["groups", "readers", "writers"]


def test_no_policy_and_later_types(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec(name="all")
    spec.MergeFromString(bytes.fromhex("1a0200633202076f"))  # types 0 and 99, actions 7 and 111
    cli = Cli(bank_with(tmp_path, spec), capsys, monkeypatch)
    assert said(cli, "list")[1:] == [
        "all     FeatureView  -                WRITE_OFFLINE  -        -",
        "        99                            111",
    ]


def test_other_projects_do_not_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = Cli(bank_with(tmp_path, READERS, project="shop"), capsys, monkeypatch)
    assert len(said(cli, "list")) == 1
    assert "admin" not in "".join(said(cli, "list-roles"))


def test_permissions_outlive_a_change_but_not_their_project(bank: Cli) -> None:
    path = bank.repo / "data/registry.db"
    before = pb.Registry.FromString(path.read_bytes())
    assert bank("feature-views", "disable", "customer_profile").status == 0
    after = pb.Registry.FromString(path.read_bytes())
    assert list(after.permissions) == list(before.permissions)
    remove_project(after, "bank")
    assert not after.permissions
