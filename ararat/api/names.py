"""Labels, annotations and finalizers: every key Ararat writes or understands, in one place."""

from __future__ import annotations

PREFIX = "ararat.dev/"

# --- on users' objects -------------------------------------------------------------------------
#: Names the volumes of a pod to back up. The other spellings mean the same, so that workloads
#: annotated for Velero or Ark move over unchanged.
BACKUP_VOLUMES = (
    "ararat.dev/backup-volumes",
    "backup-volumes",
    "backup.velero.io/backup-volumes",
    "backup.ark.heptio.com/backup-volumes",
)
#: The same keys for the opt-out mode: volumes to leave out.
BACKUP_VOLUMES_EXCLUDES = tuple(f"{key}-excludes" for key in BACKUP_VOLUMES)
#: What the annotations of a pod's hooks begin with, each followed by container, command, on-error
#: or timeout. Of several spellings the first that names a command counts.
PRE_HOOK_BACKUP = (
    "pre.hook.backup.ararat.dev/",
    "pre.hook.backup.velero.io/",
    "pre.hook.backup.ark.heptio.com/",
    "hook.backup.velero.io/",
    "hook.backup.ark.heptio.com/",
)
POST_HOOK_BACKUP = (
    "post.hook.backup.ararat.dev/",
    "post.hook.backup.velero.io/",
    "post.hook.backup.ark.heptio.com/",
)
#: The same for restores: a command after it, and an init container before the pod's own.
POST_HOOK_RESTORE = (
    "post.hook.restore.ararat.dev/",
    "post.hook.restore.velero.io/",
    "post.hook.restore.ark.heptio.com/",
)
INIT_HOOK_RESTORE = (
    "init.hook.restore.ararat.dev/",
    "init.hook.restore.velero.io/",
    "init.hook.restore.ark.heptio.com/",
)
#: On pods and claims: patterns of files to leave out of their volumes' backups.
EXCLUDE = "ararat.dev/exclude"
#: An object with this label set to "true" is in no backup.
EXCLUDE_FROM_BACKUP = "ararat.dev/exclude-from-backup"

# --- written by Ararat -------------------------------------------------------------------------
#: On node jobs: the node (hashed where its name exceeds a label value). Agents watch only theirs.
NODE = "ararat.dev/node"
#: On node jobs and Secrets: the backup or restore they belong to (label-safe name and UID).
BACKUP = "ararat.dev/backup"
BACKUP_UID = "ararat.dev/backup-uid"
RESTORE = "ararat.dev/restore"
RESTORE_UID = "ararat.dev/restore-uid"
#: On a pod of ours that mounts a claim for a node job, because no other pod does.
HELPER = "ararat.dev/helper"
#: On scratch pods, and on node jobs of a verification: the volume (annotation, as people read it).
VERIFIES = "ararat.dev/verifies"
#: On namespaces made for pods of a verification: its UID; what they are copies of (annotation).
RUN_OF = "ararat.dev/verification-uid"
COPY_OF = "ararat.dev/copy-of"
#: On a Secret made for node jobs, on helper pods: the UID of the Backup or Restore they go with.
OWNER_UID = "ararat.dev/owner-uid"
#: On a Secret that records the hooks of a pod: the UID of the Backup that they belong to.
HOOKS_OF = "ararat.dev/hooks-of"
#: The same for a Restore.
RESTORE_HOOKS_OF = "ararat.dev/restore-hooks-of"
#: On a restored pod (annotation): its init containers that a restore's hooks put there.
HOOK_CONTAINERS = "ararat.dev/hook-containers"
#: On a Backup: the Schedule that made it (label-safe name).
SCHEDULE = "ararat.dev/schedule"
#: On a Backup, Repository: its location.
LOCATION = "ararat.dev/location"
#: On a Backup that sync made: it was not made by this cluster.
SYNCED = "ararat.dev/synced"
#: On a claim: the UID of the Restore that still owes it data.
RESTORE_PENDING = "ararat.dev/restore-pending"
#: On a namespace: the gate's webhooks are consulted here.
RESTORING = "ararat.dev/restoring"
#: On a gated pod (annotation): the name of the Restore, and the volumes its gate waits for.
GATE_RESTORE = "ararat.dev/gate-restore"
GATE_VOLUMES = "ararat.dev/gate-volumes"
#: On a gated pod (annotation): the pod of its StatefulSet that must be ready before it.
GATE_AFTER = "ararat.dev/gate-after"
#: On a workload (annotation): the Restore that scaled it to zero, and what it was before.
SCALED_DOWN = "ararat.dev/scaled-down"
#: On a claim: the UID of the Restore whose data for it was given up: it may hold anything.
RELEASED = "ararat.dev/released"
#: Condition of a gated pod.
VOLUMES_RESTORED = "ararat.dev/volumes-restored"
#: On a BackupLocation (annotation): UID of the owner that a person wants to take over from.
TAKE_OVER = "ararat.dev/take-over-from"
#: On the master key's Secret (annotations): what a rotation waits for, and since when the present
#: key is the key.
KEY_ROTATION = "ararat.dev/key-rotation"
KEY_ROTATED_AT = "ararat.dev/key-rotated-at"
#: Likewise: what is stored is to be encrypted anew; since when that was asked for.
KEY_REENCRYPT = "ararat.dev/key-reencrypt"
#: On a BackupLocation whose location.json is lost (annotation): write it anew from the key files.
RECOVER = "ararat.dev/recover"
#: On a Restore that ended with failed volumes (annotation): have another go at those.
RETRY = "ararat.dev/retry"
#: On a running Backup or Restore: cleaned up before the object goes.
FINALIZER = "ararat.dev/running"

#: Held by the controller that leads: its holder is the name of that one's pod.
CONTROLLER_LEASE = "ararat-controller"
#: On the pods that run the parts of Ararat.
COMPONENT = "app.kubernetes.io/component"
COMPONENT_AGENT = "agent"
COMPONENT_CONTROLLER = "controller"
COMPONENT_MAINTENANCE = "maintenance"
#: On a maintenance Job: the Repository's UID (label) and its directory (annotation).
REPOSITORY_UID = "ararat.dev/repository-uid"
DIRECTORY = "ararat.dev/directory"
