import pytest

from tenantry.engines.jail.escape.excesses import mounts_counted

HOST = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw,relatime - proc proc rw
24 22 0:30 / /srv rw,relatime - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        pytest.param("30 22 254:0 /var/lib/docker /var/lib/docker rw - ext4 /dev/vda rw", 0, id="engine_on_root"),
        pytest.param("30 24 0:30 /engine /srv/engine rw - tmpfs tmpfs rw", 0, id="engine_elsewhere"),
        pytest.param("30 22 0:40 / /var/lib/docker/overlay2/a/merged rw - overlay overlay rw", 0, id="container"),
        pytest.param("30 22 254:0 /home/kept /var/lib/docker rw - ext4 /dev/vda rw", 1, id="another_folder"),
        pytest.param("30 24 254:0 /engine /srv/engine rw - ext4 /dev/vda rw", 1, id="of_another_file_system"),
        pytest.param("30 22 0:40 / /workspace rw - tmpfs tmpfs rw", 1, id="a_room"),
        pytest.param("30 99 254:0 /workspace /workspace rw - ext4 /dev/vda rw", 1, id="on_what_is_not_seen"),
    ],
)
def test_what_an_engine_mounts_is_not_left_of_a_sandbox(line: str, counted: int) -> None:
    assert mounts_counted(HOST + line + "\n") - mounts_counted(HOST) == counted
