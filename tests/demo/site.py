"""The WordPress site of the demo: how it is set up, and what is looked at before and after.

Decision: the site is looked at from three sides. As a reader: its posts over HTTP, through a
port-forward. As an administrator: every file of both volumes, walked inside the pods. From inside:
what `guard.py` found on each volume at the moment the server started.
Limits: MariaDB's files are compared as its server met them at its start, because a running server
changes them. They were copied while nobody wrote, which is waited for; a busy database wants hooks.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.demo.terminal import Narrator, size
from tests.e2e.support.podwatch import PodHistory
from tests.e2e.support.tools import Tools
from tests.e2e.support.waiting import eventually
from tests.e2e.support.walks import Walk, walk
from tests.e2e.support.workload import Records, records

WORKLOADS = Path(__file__).parent / "workloads"
SUPPORT = Path(__file__).parents[1] / "e2e/support"
POSTS = 40
UPLOADS = "--large 3 --large-mib 40 --small 4000"

_DATABASE = "/var/lib/mysql"
_CONTENT = "/var/lib/wordpress/wp-content"
_FIELDS = "id,date_gmt,slug,title,content"
_LOOKS = 5


@dataclass(frozen=True)
class Snapshot:
    """The site at one moment."""

    posts: list[dict[str, Any]]
    database: Walk
    content: Walk

    @property
    def size(self) -> str:
        """For people."""
        count = len(self.posts)
        files = self.database.files + self.content.files
        return f"{count} posts, {files} files, {size(self.database.bytes + self.content.bytes)}"


@dataclass(frozen=True)
class Site:
    """The site in one namespace of one cluster."""

    tools: Tools
    namespace: str = "wp"

    def install(self, tell: Narrator) -> None:
        """Everything a user does to set it up for the first time."""
        here = ("-n", self.namespace)
        scripts = [str(WORKLOADS / "scripts"), *(str(SUPPORT / s) for s in _SCRIPTS)]
        files = [f"--from-file={path}" for path in scripts]
        tell.type(self.tools, "kubectl", "create", "namespace", self.namespace)
        self.tools.run(
            *("kubectl", "create", "configmap", "site", *here, *files),
            echo=tell,
            shown=f"kubectl create configmap site -n {self.namespace} --from-file=scripts",
        )
        first = ("configmap", "first-install", *here)
        tell.type(self.tools, "kubectl", "create", *first, "--from-literal=allowed=yes")
        self.tools.run(
            *("kubectl", "apply", *here, "-f", str(WORKLOADS / "site.yaml")),
            echo=tell,
            shown=f"kubectl apply -n {self.namespace} -f site.yaml",
        )
        self.wait_until_up(tell)
        self.php(tell, "install.php", POSTS)
        uploads = ("python3", "/opt/site/filler.py", f"{_CONTENT}/uploads", *UPLOADS.split())
        tell.type(self.tools, "kubectl", "exec", *here, "deploy/wordpress", "--", *uploads)
        tell.say("From here on, a container that finds an empty volume refuses to start:")
        tell.type(self.tools, "kubectl", "delete", *first)

    def wait_until_up(self, tell: Narrator) -> None:
        """Wait for both servers."""
        for workload in ("statefulset/mariadb", "deployment/wordpress"):
            where = (workload, "-n", self.namespace, "--timeout=180s")
            tell.type(self.tools, "kubectl", "rollout", "status", *where)

    def php(self, tell: Narrator, script: str, number: int) -> None:
        """Run one of the site's scripts, as its web server's user."""
        command = ("php", f"/opt/site/{script}", str(number))
        where = ("-n", self.namespace, "deploy/wordpress")
        tell.type(self.tools, "kubectl", "exec", *where, "--", *command)

    def snapshot(self) -> Snapshot:
        """What there is now; waits until the database has written everything to its files."""
        posts, content = self.posts(), self.content()
        return Snapshot(posts, self._database_at_rest(), content)

    def posts(self) -> list[dict[str, Any]]:
        """All posts, as WordPress itself hands them out over HTTP."""
        with self._forwarded() as url:
            found: list[dict[str, Any]] = json.loads(
                _get(f"{url}/?rest_route=/wp/v2/posts&per_page=100&_fields={_FIELDS}")
            )
        return found

    def front_page(self) -> str:
        """The site's first page as a browser gets it."""
        with self._forwarded() as url:
            return _get(f"{url}/").decode()

    def database(self) -> Walk:
        """MariaDB's files now."""
        return self._walk("mariadb", _DATABASE)

    def content(self) -> Walk:
        """Everything on WordPress's claim now."""
        return self._walk("wordpress", _CONTENT)

    def records(self) -> Mapping[str, Records]:
        """What the guards saw, by application."""
        return {
            app: records(self.tools, namespace=self.namespace, pod=self._pod(app), container=app)
            for app in ("mariadb", "wordpress")
        }

    def _database_at_rest(self) -> Walk:
        """MariaDB's files once they stayed the same for a few looks; it writes out in the back."""
        looks = [self.database()]

        def unchanged() -> bool:
            now = self.database()
            if looks[-1].differences(now):
                looks.clear()
            looks.append(now)
            return len(looks) >= _LOOKS

        eventually(
            unchanged, what="MariaDB to have written out its changes", timeout=60.0, interval=1.0
        )
        return looks[-1]

    def _walk(self, app: str, directory: str) -> Walk:
        return walk(
            self.tools,
            namespace=self.namespace,
            pod=self._pod(app),
            directory=directory,
            container=app,
        )

    def _pod(self, app: str) -> str:
        pods = self.tools.items("pods", namespace=self.namespace, selector=f"app={app}")
        names: list[str] = [
            pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]
        ]
        assert len(names) == 1, f"expected one pod of {app} in {self.namespace}, found {names}"
        return names[0]

    @contextlib.contextmanager
    def _forwarded(self) -> Iterator[str]:
        """A URL on the loopback address that leads to the site."""
        command = ["kubectl", "port-forward", "-n", self.namespace, "service/wordpress", ":80"]
        with subprocess.Popen(
            ["/usr/bin/env", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.tools.environment,
            text=True,
        ) as child:
            try:
                assert child.stdout is not None
                line = child.stdout.readline()
                match = re.search(r"127\.0\.0\.1:(\d+)", line)
                assert match, f"kubectl port-forward said: {line}{child.stdout.read()}"
                yield f"http://127.0.0.1:{match[1]}"
            finally:
                child.terminate()


_SCRIPTS = ("walker.py", "guard.py", "filler.py")


def prove(tell: Narrator, site: Site, before: Snapshot, history: PodHistory, *, where: str) -> None:
    """Everything that must hold after a restore."""
    posts = site.posts()
    shown = sum(f"Day {n} on the ark" in site.front_page() for n in (POSTS, POSTS - 1))
    tell.proved(
        f"{where}: the site answers over HTTP with the same posts",
        f"{len(posts)} posts of {len(before.posts)}, text by text; front page "
        + ("shows the newest" if shown else "lacks the newest"),
        holds=posts == before.posts and shown > 0,
    )
    content = site.content()
    tell.proved_same(
        f"{where}: every file has its checksum, owner, mode, mtime, xattrs and links",
        f"{content.files} files, {size(content.bytes)}",
        before.content.differences(content),
    )
    found = site.records()
    for app, walked in (("mariadb", before.database), ("wordpress", before.content)):
        tell.proved_same(
            f"{where}: {app}'s server started on exactly the files of the backup",
            f"{found[app].walk.files} files, {size(found[app].walk.bytes)}",
            walked.differences(found[app].walk),
        )
    starts = [start for record in found.values() for start in record.starts]
    tell.proved(
        f"{where}: no server ever started on an empty volume",
        f"{len(starts)} starts of {len(found)} servers",
        holds=len(starts) == len(found) and not any(start["empty"] for start in starts),
    )
    violations = history.violations()
    for line in history.timeline():
        tell.output(line)
    tell.proved_same(
        f"{where}: no container ran before its pod's gate had ended",
        f"{len(history.versions)} states of {len(history.pods())} pods looked at",
        violations if history.pods() else ["no pod was seen"],
    )


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        body: bytes = response.read()
    return body
