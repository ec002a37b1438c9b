"""The options that a study is resumed with."""

from __future__ import annotations

import pytest

from imbtune.search_options import search_request
from imbtune.study.request import SearchRequest, resume_changes


def request(address: str | None) -> SearchRequest:
    return search_request(
        "digits-lt", trials=4, address=address, cpus_per_trial=8, gpus_per_trial=0.5,
        max_concurrent=16,
    )  # fmt: skip


def test_a_search_with_the_address_local_is_one_of_this_machine() -> None:
    assert request("local") == request(None)
    assert request("local").address is None


@pytest.mark.parametrize("address", ["auto", "head:6379"])
def test_a_study_of_a_cluster_is_resumed_on_this_machine(address: str) -> None:
    """With what fits this machine, unless it is given; the rest stays as it was."""
    content = {"request": request(address).to_dict()}
    changes = resume_changes({"address": "local", "cpus_per_trial": 1, "trials": 9}, content)
    assert changes == {
        "address": None,
        "cpus_per_trial": 1,
        "gpus_per_trial": None,
        "max_concurrent": None,
        "trials": 9,
    }
    assert resume_changes({"trials": 9}, {"request": request(address).to_dict()}) == {"trials": 9}


def test_local_changes_nothing_of_a_study_that_began_on_this_machine() -> None:
    assert resume_changes({"address": "local"}, {"request": request(None).to_dict()}) == {
        "address": None
    }
    assert resume_changes({"address": "auto"}, {"request": request(None).to_dict()}) == {
        "address": "auto"
    }
