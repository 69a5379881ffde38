"""Conditions and their reasons: the words in which the state of every object is told."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tenantry.api.base import Model

MAX_MESSAGE = 1024


class ConditionType(StrEnum):
    """The conditions that exist. Reconciling and Stalled are present only while True (kstatus)."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    # Tenant
    PLACED = "Placed"
    NAMESPACE_READY = "NamespaceReady"
    DATABASE_READY = "DatabaseReady"
    SECRETS_READY = "SecretsReady"
    INGRESS_READY = "IngressReady"
    CHANGE_HELD = "ChangeHeld"
    MOVE_PROGRESSING = "MoveProgressing"
    BACKUP_HEALTHY = "BackupHealthy"
    # Cluster, DatabaseServer
    REACHABLE = "Reachable"
    CREDENTIALS_VALID = "CredentialsValid"
    PERMISSIONS_SUFFICIENT = "PermissionsSufficient"
    # DatabaseServer
    ISOLATED = "Isolated"
    # TenantPlan
    ACCEPTED = "Accepted"
    ROLLED_OUT = "RolledOut"


class Reason(StrEnum):
    """Why a condition is as it is. CamelCase, stable: people alert on them."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    DELETING = "Deleting"
    PENDING = "Pending"
    NOT_WANTED = "NotWanted"
    DISABLED = "Disabled"
    SUSPENDED = "Suspended"
    RETRYING = "Retrying"
    # placement
    NO_CLUSTER_MATCHES = "NoClusterMatches"
    AMBIGUOUS_DEFAULT = "AmbiguousDefault"
    CLUSTER_NOT_FOUND = "ClusterNotFound"
    CLUSTER_NOT_ALLOWED = "ClusterNotAllowed"
    CLUSTER_NOT_READY = "ClusterNotReady"
    CLUSTER_UNREACHABLE = "ClusterUnreachable"
    CLUSTER_FULL = "ClusterFull"
    CLUSTER_UNSCHEDULABLE = "ClusterUnschedulable"
    CLUSTER_CLAIMED = "ClusterClaimed"
    CLUSTER_NOT_EMPTY = "ClusterNotEmpty"
    MOVE_NOT_SUPPORTED = "MoveNotSupported"
    MOVE_NOT_APPROVED = "MoveNotApproved"
    MOVE_PREPARING = "MovePreparing"
    MOVE_STOPPING = "MoveStopping"
    MOVE_COPYING = "MoveCopying"
    MOVE_SWITCHED = "MoveSwitched"
    MOVE_FAILED = "MoveFailed"
    MOVE_ROLLED_BACK = "MoveRolledBack"
    MOVED = "Moved"
    IDENTITY_CHANGED = "IdentityChanged"
    # plan
    PLAN_NOT_FOUND = "PlanNotFound"
    PLAN_EXCEEDED = "PlanExceeded"
    PLAN_FULL = "PlanFull"
    ROLLING_OUT = "RollingOut"
    ROLLOUT_PAUSED = "RolloutPaused"
    # namespace
    NAMESPACE_CONFLICT = "NamespaceConflict"
    NAMESPACE_RESERVED = "NamespaceReserved"
    NAMESPACE_RECREATED = "NamespaceRecreated"
    NAMESPACE_NOT_FOUND = "NamespaceNotFound"
    NAMESPACE_NOT_OFFERED = "NamespaceNotOffered"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    QUOTA_NOT_ENFORCED = "QuotaNotEnforced"
    PREDECESSOR_EXISTS = "PredecessorExists"
    RECORD_MISSING = "RecordMissing"
    APPLY_REFUSED = "ApplyRefused"
    # database
    SERVER_NOT_FOUND = "ServerNotFound"
    SERVER_NOT_READY = "ServerNotReady"
    SERVER_FULL = "ServerFull"
    NO_DATABASE_SERVER = "NoDatabaseServer"
    DATABASE_CONFLICT = "DatabaseConflict"
    DATABASE_MISSING = "DatabaseMissing"
    DATABASE_REFUSED = "DatabaseRefused"
    LOGIN_FAILED = "LoginFailed"
    EXTENSION_NOT_ALLOWED = "ExtensionNotAllowed"
    NOT_VERIFIED = "NotVerified"
    DATABASE_SECRET_INVALID = "DatabaseSecretInvalid"
    HOST_NOT_RESOLVED = "HostNotResolved"
    DEDICATED_NOT_OFFERED = "DedicatedNotOffered"
    DATABASE_STARTING = "DatabaseStarting"
    # secrets
    SECRET_NOT_FOUND = "SecretNotFound"
    ENV_INVALID = "EnvInvalid"
    # ingress
    HOSTNAME_CONFLICT = "HostnameConflict"
    HOST_NOT_ALLOWED = "HostNotAllowed"
    HOST_NOT_VERIFIED = "HostNotVerified"
    HOST_STILL_NAMED = "HostStillNamed"
    INGRESS_CLASS_NOT_FOUND = "IngressClassNotFound"
    NO_DOMAIN = "NoDomain"
    ADDRESS_PENDING = "AddressPending"
    # clusters and servers
    PROBING = "Probing"
    KUBECONFIG_INVALID = "KubeconfigInvalid"
    ADDRESS_REFUSED = "AddressRefused"
    UNAUTHORIZED = "Unauthorized"
    UNREACHABLE = "Unreachable"
    PERMISSIONS_MISSING = "PermissionsMissing"
    DUPLICATE_CLUSTER = "DuplicateCluster"
    DUPLICATE_SERVER = "DuplicateServer"
    PUBLIC_CAN_CONNECT = "PublicCanConnect"
    VERSION_NOT_SUPPORTED = "VersionNotSupported"
    IN_USE = "InUse"
    EXPIRED = "Expired"
    # deletion
    DELETION_HELD = "DeletionHeld"
    PROTECTED = "Protected"
    DELETED = "Deleted"
    RETAINED = "Retained"
    ORPHANED = "Orphaned"
    UNDELETED = "Undeleted"
    PURGED = "Purged"
    SIDE_FORGOTTEN = "SideForgotten"
    SIDE_NOT_FOUND = "SideNotFound"
    PURGE_BLOCKED = "PurgeBlocked"
    # dry run
    DRY_RUN = "DryRun"
    DRY_RUN_REFUSED = "DryRunRefused"
    NOTHING_HELD = "NothingHeld"
    # rotation
    ROTATED = "Rotated"
    ROTATION_PENDING = "RotationPending"
    ROTATION_NOT_APPLICABLE = "RotationNotApplicable"
    LOGIN_LOCKED = "LoginLocked"
    # backups
    STORE_NOT_FOUND = "StoreNotFound"
    STORE_NOT_READY = "StoreNotReady"
    STORE_SECRET_INVALID = "StoreSecretInvalid"
    TENANT_NOT_FOUND = "TenantNotFound"
    NO_DATABASE = "NoDatabase"
    DUMP_IMPOSSIBLE = "DumpImpossible"
    BACKUP_RUNNING = "BackupRunning"
    BACKUP_COMPLETED = "BackupCompleted"
    BACKUP_FAILED = "BackupFailed"
    BACKUP_INTERRUPTED = "BackupInterrupted"
    BACKUP_PENDING = "BackupPending"
    BACKUP_OVERDUE = "BackupOverdue"
    SCHEDULE_INVALID = "ScheduleInvalid"
    NO_BACKUP_STORE = "NoBackupStore"
    FINAL_BACKUP = "FinalBackup"
    NOT_IN_STORE = "NotInStore"
    STORE_SYNCED = "StoreSynced"
    VERIFICATION_PASSED = "VerificationPassed"
    VERIFICATION_FAILED = "VerificationFailed"
    VERIFICATION_OVERDUE = "VerificationOverdue"
    # restores
    NOT_YET_TIME = "NotYetTime"
    BACKUP_NOT_FOUND = "BackupNotFound"
    BACKUP_NOT_READY = "BackupNotReady"
    RESTORE_NOT_POSSIBLE = "RestoreNotPossible"
    SAFETY_BACKUP_RUNNING = "SafetyBackupRunning"
    SAFETY_BACKUP_FAILED = "SafetyBackupFailed"
    RESTORE_RUNNING = "RestoreRunning"
    RESTORE_COMPLETED = "RestoreCompleted"
    RESTORE_FAILED = "RestoreFailed"
    RESTORE_UNDONE = "RestoreUndone"
    UNDO_NOT_POSSIBLE = "UndoNotPossible"


class Condition(Model):
    """One condition as Kubernetes' API conventions lay it down."""

    type: Annotated[str, Field(max_length=64)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=MAX_MESSAGE)] = ""
    last_transition_time: Annotated[str, Field(max_length=32)] = ""
    observed_generation: int = 0
