"""What a job leaves behind: named by globs, regular files only, and what is not kept is said."""

import hashlib

from tests.integration.sandboxes.ground import Ground

HOSTILE = """
import os, socket
os.chdir("/outputs")
open("good.txt", "w").write("good")
os.mkdir("deep"); open("deep/er.txt", "w").write("deeper")
open("unwanted.log", "w").write("no")
os.symlink("/etc/passwd", "link.txt")
os.symlink("/", "rootlink")
os.mkfifo("pipe.txt")
socket.socket(socket.AF_UNIX).bind("socket.txt")
open("new\\nline.txt", "w").write("x")
os.mkdir("locked"); open("locked/in.txt", "w").write("x"); os.chmod("locked", 0)
"""


def test_globs_choose_regular_files_and_every_other_match_is_told(ground: Ground) -> None:
    job = ground.run("python3", "-c", HOSTILE, artifacts=["outputs/**/*.txt"])
    assert job["status"] == "succeeded", ground.lines(job["id"])
    kept = ground.artifacts(job["id"])
    assert set(kept) == {"outputs/good.txt", "outputs/deep/er.txt"}
    assert kept["outputs/good.txt"]["sha256"] == hashlib.sha256(b"good").hexdigest()
    assert ground.content(job["id"], kept["outputs/deep/er.txt"]["id"]).content == b"deeper"
    told = ground.lines(job["id"], "system")
    for name in ("link.txt", "pipe.txt", "socket.txt"):
        assert f"'outputs/{name}' was not kept: not_regular" in told
    assert "unwanted" not in told


def test_a_sparse_giant_counts_as_large_as_it_says(ground: Ground) -> None:
    script = "cd /outputs; truncate -s 1100M giant.bin && echo small > z.txt"
    job = ground.sh(script, artifacts=["outputs/*"], limits={"memory_mib": 4096})
    assert job["status"] == "succeeded"
    assert set(ground.artifacts(job["id"])) == {"outputs/z.txt"}
    assert "'outputs/giant.bin' was not kept: too_large" in ground.lines(job["id"], "system")


def test_a_great_many_files_are_cut_off_and_the_rest_is_told(ground: Ground) -> None:
    script = "import os\nos.chdir('/outputs')\nfor n in range(1105): open(f'{n:05}', 'w').write('x')"
    job = ground.run("python3", "-c", script, artifacts=["outputs/*"], limits={"timeout_seconds": 60})
    page = ground.client.get(f"{ground.jobs}/{job['id']}/artifacts", params={"limit": 200}).json()
    seen = len(page["items"])
    while page["next_cursor"]:
        params = {"limit": 200, "cursor": page["next_cursor"]}
        page = ground.client.get(f"{ground.jobs}/{job['id']}/artifacts", params=params).json()
        seen += len(page["items"])
    assert seen == 1000
    told = ground.lines(job["id"], "system")
    assert "too_many" in told
    assert "and 85 more artifacts were not kept" in told


def test_artifacts_of_a_failed_and_of_a_killed_job_are_kept_too(ground: Ground) -> None:
    failed = ground.sh("echo why > /outputs/report; exit 3", artifacts=["outputs/report"])
    assert set(ground.artifacts(failed["id"])) == {"outputs/report"}
    killed = ground.sh("echo so-far > report; sleep 60", artifacts=["report"], limits={"timeout_seconds": 0.5})
    [artifact] = ground.artifacts(killed["id"]).values()
    assert ground.content(killed["id"], artifact["id"]).content == b"so-far\n"


def test_nothing_is_kept_that_was_not_asked_for(ground: Ground) -> None:
    assert ground.artifacts(ground.sh("echo x > /outputs/x")["id"]) == {}
