import re
from pathlib import Path

from tests.processes import RUN, serve


def test_seed_prints_a_login_and_how_to_start_afresh(tmp_path: Path) -> None:
    with serve(tmp_path, command=(*RUN, "seed"), DATA_DIR="data") as seeding:
        assert seeding.wait_for_exit() == 0, seeding.err
        assert "Start the service with `make run`" in seeding.out
        login = re.search(
            r"^  email     (\S+)\n  password  (\S+)$", seeding.out, flags=re.MULTILINE
        )
        assert login is not None
        assert "remove data and run `make seed` again" in seeding.out
        plain = [line for line in seeding.out.splitlines() if not line.startswith("{")]
        assert max(map(len, plain)) <= 100
    with serve(tmp_path, DATA_DIR="data") as service:
        user = dict(zip(("email", "password"), login.groups(), strict=True))
        assert (
            service.wait_until_serving().request("POST", "/api/users/login", {"user": user})[0]
            == 200
        )


def test_seed_of_a_database_with_users_is_one_sentence(tmp_path: Path) -> None:
    with serve(tmp_path) as service:
        service.wait_until_serving().register("jake")
    with serve(tmp_path, command=(*RUN, "seed")) as seeding:
        assert seeding.wait_for_exit() == 1
        assert seeding.err == (
            "The database is not empty: seed fills only a database without users.\n"
        )
