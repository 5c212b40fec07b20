"""The story: a site is backed up, lost, brought back, and brought to a second cluster.

Each step runs the commands a user would type, and shows them. What must hold is proved by looking
at the site, its files and its pods (`site.py`), never by asking Ararat.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.cluster.provisioner import DEFAULT_CLASS, OTHER_CLASS
from tests.demo.clusters import Clusters
from tests.demo.site import Site, Snapshot, prove
from tests.demo.terminal import Narrator, size
from tests.e2e.support import install
from tests.e2e.support.podwatch import watch_pods
from tests.e2e.support.tools import Tools
from tests.e2e.support.waiting import eventually

_CONTAINER = "backups"
_COPY = "wp-copy"
_NOTHING = "(none)"


class Scenario:
    """Runs the steps in order; each needs what those before it left."""

    def __init__(self, tell: Narrator, clusters: Clusters) -> None:
        self.tell = tell
        self.clusters = clusters
        self.current: Tools | None = None
        """The cluster the story is in: what a failure is looked into."""

    def run(self) -> None:
        """The whole story."""
        one = self._cluster()
        blob = self._ararat(one)
        site = Site(one)
        before = self._site(site)
        self._backup(one, site, before)
        self._lose(one)
        self._restore(site, before)
        key = self._export_key(one)
        two = self._second_cluster(blob, key)
        self._restore_elsewhere(two, before)
        self._refused(two)
        self._second_backup(one, site)

    def _cluster(self) -> Tools:
        with self.tell.step("A Kubernetes cluster of two nodes, and images for it") as notes:
            self.clusters.build_images()
            one = self.current = self.clusters.start_first()
            self.tell.command(f"export KUBECONFIG={one.kubeconfig}")
            self.tell.type(one, "kubectl", "get", "nodes", "-o", "wide")
            self.clusters.begin_second()
            notes.append("a second cluster is starting in the background")
        return one

    def _ararat(self, one: Tools) -> install.Blob:
        tell = self.tell
        with tell.step(
            "Ararat, with a location in Azure Blob Storage (Azurite, over TLS)"
        ) as notes:
            blob = self.clusters.start_blob(_CONTAINER)
            install.create_credentials(one, blob, echo=tell)
            self._show_values(blob.values())
            install.install(one, blob.values(), echo=tell)
            install.wait_until_ready(one)
            tell.type(one, "kubectl", "get", "pods", "-n", one.namespace, "-o", "wide")
            tell.type(one, "ararat", "location", "get")
            notes.append(blob.endpoint.rpartition("/")[0])
        return blob

    def _site(self, site: Site) -> Snapshot:
        tell = self.tell
        with tell.step("A WordPress site on MariaDB, with posts and uploads") as notes:
            site.install(tell)
            tell.type(site.tools, "kubectl", "get", "pods,pvc", "-n", "wp", "-o", "wide")
            before = site.snapshot()
            notes.append(before.size)
            tell.say(f"Noted: {before.size}")
        return before

    def _backup(self, one: Tools, site: Site, before: Snapshot) -> None:
        tell = self.tell
        with tell.step("Which volumes to keep is said on the pods; then a backup") as notes:
            for app, volume in (("mariadb", "data"), ("wordpress", "wordpress-data")):
                note = f"ararat.dev/backup-volumes={volume}"
                where = ("pods", "-n", "wp", "-l", f"app={app}")
                tell.type(one, "kubectl", "annotate", *where, note)
            what = ("backup", "create", "mybackup", "--include-namespaces", "wp")
            tell.live(one, "ararat", *what, "-w")
            tell.type(one, "ararat", "backup", "get")
            kinds = "backups,podvolumebackups"
            tell.type(one, "kubectl", "get", kinds, "-n", one.namespace)
            stored = _status(one, "backup", "mybackup")
            notes.append(
                f"{size(stored.get('bytesProcessed', 0))} read, "
                f"{size(stored.get('bytesStored', 0))} stored"
            )
            tell.proved("the backup completed", str(stored.get("phase")), holds=_completed(stored))
            tell.proved_same(
                "nobody wrote to the database while it was copied",
                "its files are the same before and after",
                before.database.differences(site.database()),
            )

    def _lose(self, one: Tools) -> None:
        tell = self.tell
        with tell.step("The disaster"):
            tell.type(one, "kubectl", "delete", "namespace", "wp")
            eventually(
                lambda: not one.items("persistentvolumes"),
                what="the volumes to be gone with their claims",
                timeout=60.0,
                seen=lambda: one.kubectl("get", "pv"),
            )
            gone = one.get("namespace", "wp") is None
            tell.type(one, "kubectl", "get", "namespaces")
            tell.type(one, "kubectl", "get", "pv")
            tell.proved("the site is gone", "no namespace wp, no volume", holds=gone)

    def _restore(self, site: Site, before: Snapshot) -> None:
        tell, one = self.tell, site.tools
        with tell.step("The restore") as notes, watch_pods(one, site.namespace) as history:
            what = ("restore", "create", "myrestore", "--from-backup", "mybackup")
            tell.live(one, "ararat", *what, "-w")
            tell.type(one, "kubectl", "get", "restores,podvolumerestores", "-n", one.namespace)
            self._restored(one, "myrestore")
            site.wait_until_up(tell)
            notes.append(before.size)
        with tell.step("What came back"):
            prove(tell, site, before, history, where="restored")

    def _export_key(self, one: Tools) -> Path:
        tell = self.tell
        path = self.clusters.work / "ararat-key.json"
        with tell.step("The key goes into escrow: without it no other cluster reads the backup"):
            one.run(
                *("ararat", "key", "export", "-o", str(path)),
                echo=tell,
                shown="ararat key export -o ararat-key.json",
            )
            tell.command("cat ararat-key.json")
            tell.output(re.sub(r"[0-9a-f]{64}", "…", path.read_text()))
        return path

    def _second_cluster(self, blob: install.Blob, key: Path) -> Tools:
        tell = self.tell
        with tell.step("A second cluster, which may only read the location") as notes:
            two = self.current = self.clusters.second()
            tell.command(f"export KUBECONFIG={two.kubeconfig}")
            tell.type(two, "kubectl", "get", "nodes", "-o", "wide")
            install.create_credentials(two, blob, echo=tell)
            values = blob.values(access_mode="ReadOnly")
            tell.say("The same values, but accessMode: ReadOnly")
            install.install(two, values, echo=tell)
            two.run(
                *("ararat", "key", "import", str(key)),
                echo=tell,
                shown="ararat key import ararat-key.json",
            )
            install.wait_until_ready(two)
            tell.type(two, "ararat", "location", "get")
            tell.say("Nobody told this cluster of any backup; it finds them in the location:")
            eventually(
                lambda: two.get("backup", "mybackup", namespace=two.namespace),
                what="mybackup to appear by itself",
                timeout=60.0,
                seen=lambda: two.kubectl("get", "backups", "-n", two.namespace),
            )
            tell.type(two, "ararat", "backup", "get")
            notes.append("found mybackup by itself")
            tell.proved("second cluster: the backup appeared by sync", "mybackup", holds=True)
        return two

    def _restore_elsewhere(self, two: Tools, before: Snapshot) -> None:
        tell = self.tell
        site = Site(two, namespace=_COPY)
        with tell.step("The same site there, under another name and on another storage class"):
            with watch_pods(two, _COPY) as history:
                what = ("restore", "create", "mycopy", "--from-backup", "mybackup")
                names = ("--namespace-mappings", f"wp:{_COPY}")
                classes = ("--storage-class-mappings", f"{DEFAULT_CLASS}:{OTHER_CLASS}")
                tell.live(two, "ararat", *what, *names, *classes, "-w")
                self._restored(two, "mycopy")
                site.wait_until_up(tell)
            tell.type(two, "kubectl", "get", "pods,pvc", "-n", _COPY, "-o", "wide")
            prove(tell, site, before, history, where="second cluster")
            claims = two.items("persistentvolumeclaims", namespace=_COPY)
            classes_found = {claim["spec"].get("storageClassName", _NOTHING) for claim in claims}
            tell.proved(
                "second cluster: the claims have the other storage class",
                f"{len(claims)} claims of {', '.join(sorted(classes_found))}",
                holds=classes_found == {OTHER_CLASS} and len(claims) == 2,
            )

    def _refused(self, two: Tools) -> None:
        tell = self.tell
        with tell.step("A backup from there is refused: the location has one writer"):
            stored = self._stored()
            what = ("backup", "create", "intruder", "--include-namespaces", _COPY, "-w")
            refused = tell.type(two, "ararat", *what, check=False)
            sentence = next(
                (line for line in refused.said.splitlines() if "read" in line.lower()), ""
            )
            tell.proved(
                "second cluster: a backup is refused with a sentence",
                f"exit code {refused.code}: {sentence.strip()}",
                holds=refused.code != 0 and bool(re.search(r"read[- ]?only", sentence, re.I)),
            )
            tell.proved_same(
                "second cluster: it wrote nothing to the location",
                f"{len(stored)} blobs, as before",
                sorted(stored ^ self._stored()),
            )

    def _second_backup(self, one: Tools, site: Site) -> None:
        tell = self.tell
        self.current = one
        with tell.step("Back in the first cluster: one more post, one more backup") as notes:
            tell.command(f"export KUBECONFIG={one.kubeconfig}")
            site.php(tell, "posts.php", 1)
            what = ("backup", "create", "mybackup2", "--include-namespaces", "wp")
            tell.live(one, "ararat", *what, "-w")
            tell.type(one, "ararat", "backup", "get")
            first, second = (_status(one, "backup", name) for name in ("mybackup", "mybackup2"))
            read, added = second.get("bytesProcessed", 0), second.get("bytesStored", 0)
            notes.append(f"{size(read)} covered, {size(added)} stored")
            tell.proved(
                "a second backup after one new post adds little",
                f"{size(added)} stored for {size(read)} of files; "
                f"the first one stored {size(first.get('bytesStored', 0))}",
                holds=_completed(second) and 0 < added < first.get("bytesStored", 0) / 10,
            )

    def _restored(self, tools: Tools, name: str) -> None:
        status = _status(tools, "restore", name)
        phase, progress = status.get("phase"), status.get("progress", {})
        done = f"{phase}, {size(progress.get('bytesDone', 0))}"
        self.tell.proved(f"{name} completed", done, holds=_completed(status))

    def _stored(self) -> set[str]:
        """What lies in the location, by name and size, seen from outside."""
        from tests.demo.blobs import listing

        assert self.clusters.azurite is not None
        return listing(self.clusters.azurite, _CONTAINER)

    def _show_values(self, values: dict[str, Any]) -> None:
        location = values["location"]
        azure = {**location["azure"], "caBundle": "-----BEGIN CERTIFICATE-----…"}
        self.tell.command("cat values.yaml")
        self.tell.output("location:")
        self.tell.output("  azure:")
        for name, value in azure.items():
            self.tell.output(f"    {name}: {value}")


def _status(tools: Tools, kind: str, name: str) -> dict[str, Any]:
    found = tools.get(f"{kind}s.ararat.dev", name, namespace=tools.namespace)
    status: dict[str, Any] = (found or {}).get("status", {})
    return status


def _completed(status: dict[str, Any]) -> bool:
    return bool(status.get("phase") == "Completed")
