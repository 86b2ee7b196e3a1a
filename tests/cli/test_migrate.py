import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import RUN, serve

NewDatabase = Callable[[], str]


@pytest.mark.parametrize("embedded", [True, False], ids=["embedded", "server"])
def test_migrate_applies_migrations_once_and_exits(
    tmp_path: Path, new_database: NewDatabase, embedded: bool
) -> None:
    where = {} if embedded else {"DATABASE_URL": new_database()}
    for applied in ("[1-9]", "0"):
        with serve(tmp_path, command=(*RUN, "migrate"), **where) as process:
            assert process.wait_for_exit() == 0, process.err
            assert re.search(rf"up to date: migrations_applied={applied}\d*\"", process.out)
            assert not process.postgres()
