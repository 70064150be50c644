# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_openai_runs.get_provider_info import get_provider_info

INFO = get_provider_info()
MODULES = sorted(
    {
        module
        for part in ("operators", "sensors", "hooks", "triggers")
        for group in INFO[part]
        for module in group["python-modules"]
    }
)


def test_the_description_fits_airflows_own_schema() -> None:
    schema = json.loads(Path(airflow.__path__[0], "provider_info.schema.json").read_text(encoding="utf-8"))

    jsonschema.validate(INFO, schema)


def test_airflow_finds_it_through_the_entry_point_under_the_name_of_the_distribution() -> None:
    found = [
        point
        for point in entry_points(group="apache_airflow_provider")
        if point.dist is not None and point.dist.name == INFO["package-name"]
    ]

    assert [point.load()() for point in found] == [INFO]
    assert version(INFO["package-name"])


@pytest.mark.parametrize("module", MODULES)
def test_every_module_that_is_named_has_what_it_is_named_for(module: str) -> None:
    assert import_module(module).__all__


@pytest.mark.parametrize("name", INFO["extra-links"])
def test_every_link_that_is_named_is_one(name: str) -> None:
    module, _, attribute = name.rpartition(".")

    assert issubclass(getattr(import_module(module), attribute), BaseOperatorLink)


@pytest.mark.parametrize("named", INFO["task-decorators"], ids=lambda named: named["name"])
def test_every_decorator_that_is_named_decorates_a_function(named: dict[str, str]) -> None:
    module, _, attribute = named["class-name"].rpartition(".")
    decorate = getattr(import_module(module), attribute)

    def ask() -> dict[str, str]:
        return {}

    assert decorate(ask).operator_class.custom_operator_name == f"@task.{named['name']}"
