from pathlib import Path

from tests.processes import RUN, serve


def test_serve_is_the_default_command_and_creates_its_secret(tmp_path: Path) -> None:
    with serve(tmp_path, command=RUN) as service:
        service.wait_until_serving()
        assert (service.data_dir / "jwt_secret").exists()
        token = service.register("jake")
        assert service.request("GET", "/api/user", token=token)[0] == 200
