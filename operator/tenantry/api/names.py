"""Every name that is written into a cluster: the API group, labels, annotations, finalizers and fixed object names."""

from __future__ import annotations

from typing import Final

GROUP: Final = "tenantry.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "tenantry"

FIELD_MANAGER: Final = "tenantry"
TENANT_FINALIZER: Final = f"{GROUP}/tenant"
CLUSTER_FINALIZER: Final = f"{GROUP}/cluster"
SERVER_FINALIZER: Final = f"{GROUP}/databaseserver"

SYSTEM_NAMESPACE: Final = "tenantry-system"
"""Where claims live on every target, and the operator's default namespace on the management cluster."""

IDENTITY_CONFIG_MAP: Final = "tenantry-identity"
DELETIONS_CONFIG_MAP: Final = "tenantry-deletions"
"""In the operator's namespace: the deletions of the last minutes that left no record to count them by."""
IDENTITY_KEY: Final = "managementId"

OPERATOR_SERVICE_ACCOUNT: Final = "tenantry-operator"

# --- the stamp: on every object that Tenantry makes on a target -----------------------------------------------
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "tenantry"
LABEL_MANAGEMENT_ID: Final = f"{GROUP}/management-id"
LABEL_TENANT_HASH: Final = f"{GROUP}/tenant-hash"
ANNOTATION_TENANT_ID: Final = f"{GROUP}/tenant-id"
ANNOTATION_RECORD: Final = f"{GROUP}/record"
ANNOTATION_EPOCH: Final = f"{GROUP}/epoch"
ANNOTATION_DESIRED_HASH: Final = f"{GROUP}/desired-hash"
"""Digest of what we last applied without its secret values: says that a field we no longer want is still there."""

# --- on a tenant's namespace: what the admission policies read ------------------------------------------------
ANNOTATION_HOSTS: Final = f"{GROUP}/hosts"
"""Comma-separated, sorted: the hosts that an Ingress or HTTPRoute in this namespace may name."""
ANNOTATION_IMAGE_PULL_POLICY: Final = f"{GROUP}/image-pull-policy"
ANNOTATION_SERVICE_TYPES: Final = f"{GROUP}/service-types"
"""Comma-separated: the Service types that this namespace may use. Without it: ClusterIP."""
ANNOTATION_ALLOW_ADOPTION: Final = f"{GROUP}/allow-adoption"
ANNOTATION_ACTIVITY: Final = f"{GROUP}/activity"
"""`off` or `tasks-off` while workloads in this namespace may be at zero by our doing. Without it none is."""
ANNOTATION_STATE: Final = f"{GROUP}/state"
"""`Deleted` or `Purging`; absent while the tenant is active: a lost record is rebuilt in the state that it had."""
STATE_MOVING: Final = "Moving"
"""That annotation's value on the side that a tenant moves away from, while nothing runs there."""
STATE_LEFT: Final = "Left"
"""On a side that a move has left, until it is purged: a lost record is not rebuilt from it, but told of it."""
ANNOTATION_ARRIVING: Final = f"{GROUP}/arriving"
"""`"true"` on the namespace that a tenant moves to, until it lives there: a lost record is not rebuilt from it."""
ANNOTATION_PURGE_AFTER: Final = f"{GROUP}/purge-after"
ANNOTATION_DELETED_AT: Final = f"{GROUP}/deleted-at"
ANNOTATION_WORKSPACE_UID: Final = f"{GROUP}/workspace-uid"
ANNOTATION_INCARNATION: Final = f"{GROUP}/incarnation"
ANNOTATION_PLAN_REVISION: Final = f"{GROUP}/plan-revision"
"""`<plan>/<revision>`; nothing after the slash: the built-in content. A lost record is pinned to it again."""

# --- on Secret `tenant-database` ------------------------------------------------------------------------------
ANNOTATION_ROTATED_AT: Final = f"{GROUP}/rotated-at"
ANNOTATION_RESTARTED_FOR: Final = f"{GROUP}/restarted-for"
"""The rotation for which the workloads were restarted."""
ANNOTATION_DATABASE_SECRET: Final = f"{GROUP}/database-secret"
"""With mode External: the Secret of the workspace that this one was made from."""

# --- on a tenant's own workloads, which carry no stamp --------------------------------------------------------
ANNOTATION_REPLICAS: Final = f"{GROUP}/replicas"
"""How many replicas a workload had before it was brought to zero, and will have again."""
ANNOTATION_SUSPENDED: Final = f"{GROUP}/suspended"
"""On a CronJob or Job that was suspended by us and not by its owner."""
LABEL_TASK: Final = f"{GROUP}/task"
"""`"true"`: set by the tenant on a workload that `spec.tasks` switches as it does CronJobs."""
ANNOTATION_RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"
"""On a pod template, as `kubectl rollout restart` sets it: a new value makes new pods."""

# --- claims in SYSTEM_NAMESPACE on a target -------------------------------------------------------------------
LABEL_CLAIM: Final = f"{GROUP}/claim"
CLAIM_HOST: Final = "host"
CLAIM_SLOT: Final = "slot"
"""In the operator's namespace on the management cluster: one of the tenants that a plan has for a workspace."""
ANNOTATION_HOST: Final = f"{GROUP}/host"

# --- on the token Secrets that `tenantry cluster join` makes on a target --------------------------------------
LABEL_JOINED_BY: Final = f"{GROUP}/joined-by"
"""The UID of the management cluster's kube-system: another management cluster's tokens stay."""
ANNOTATION_CLUSTER: Final = f"{GROUP}/cluster"
"""The Cluster that the token was made for."""

# --- plans, in the operator's namespace on the management cluster ---------------------------------------------
LABEL_PLAN: Final = f"{GROUP}/plan"
"""On a ControllerRevision and on a slot: the TenantPlan whose content or slot it is; see `plan_label`."""
ANNOTATION_ROLLOUT_PAUSED: Final = f"{GROUP}/rollout-paused"
"""On a ControllerRevision: why its rollout stopped. It stays so when the operator restarts or the cause is over."""

# --- what people set on the custom resources ------------------------------------------------------------------
LABEL_ENV_SECRET: Final = f"{GROUP}/env"
"""`"true"` on a Secret of a workspace that its tenants may take their environment from."""
LABEL_DATABASE_SECRET: Final = f"{GROUP}/database"
"""`"true"` on a Secret of a workspace that describes a database of its tenants' own: mode External."""
ANNOTATION_REQUESTED_AT: Final = f"{GROUP}/requestedAt"
ANNOTATION_ACCEPT_IDENTITY: Final = f"{GROUP}/accept-identity"
ANNOTATION_CONFIRM_DELETION: Final = f"{GROUP}/confirm-deletion"
ANNOTATION_ABORT_DELETION: Final = f"{GROUP}/abort-deletion"
ANNOTATION_FORCE_ORPHAN: Final = f"{GROUP}/force-orphan"
"""These three hold the UID of the object that they are meant for, so that none works a second time out of git."""
ANNOTATION_ADOPT: Final = f"{GROUP}/adopt"
ANNOTATION_START_FRESH: Final = f"{GROUP}/start-fresh"
"""These two hold the name of the predecessor's TenantRecord."""
ANNOTATION_APPROVE_MOVE: Final = f"{GROUP}/approve-move"
"""On a Tenant: where it may move to, `<cluster>`, `<server>` or `<cluster>/<server>`."""
ANNOTATION_ADOPT_WORKSPACE: Final = f"{GROUP}/adopt-workspace"
"""On a workspace, set by the platform: the UID of the namespace whose tenants it takes over."""
ANNOTATION_RESUME_ROLLOUT: Final = f"{GROUP}/resume-rollout"
"""On a TenantPlan: the revision whose rollout goes on in spite of tenants that did not get well on it."""
ANNOTATION_DRY_RUN: Final = f"{GROUP}/dry-run"
"""On a Tenant: its changed specs are held and shown in `status.preview`. `"false"` is as if it were not there."""
ANNOTATION_ROTATE_CREDENTIALS: Final = f"{GROUP}/rotate-credentials"
"""On a Tenant: a time, or `force-` and a time; on its Secret: the last one that was done."""

# --- fixed object names in a tenant's namespace ---------------------------------------------------------------
SECRET_DATABASE: Final = "tenant-database"
SECRET_ENV: Final = "tenant-env"
CONFIG_MAP_INFO: Final = "tenant-info"
SERVICE_ACCOUNT: Final = "tenant"
RESOURCE_QUOTA: Final = "tenant"
RESOURCE_QUOTA_OFF: Final = "tenant-off"
"""Lets no pod be made: of a tenant that is switched off or deleted."""
LIMIT_RANGE: Final = "tenant"
INGRESS: Final = "tenant"
INGRESS_OWN_CERTIFICATES: Final = "tenant-own-certificates"
OPERATOR_ROLE_BINDING: Final = "tenantry-operator"
POSTGRES: Final = "tenant-postgres"
"""The StatefulSet, Service, ConfigMap and Secret of a Dedicated database."""
POSTGRES_PODS: Final = "tenant-postgres-pods"
"""The headless Service that its StatefulSet has to have."""
POSTGRES_OUTSIDE: Final = "tenant-postgres-outside"
"""The Service and NetworkPolicy that let in who is outside of the cluster."""
POSTGRES_POD: Final = f"{POSTGRES}-0"
POSTGRES_VOLUME: Final = f"data-{POSTGRES_POD}"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
ANNOTATION_SETTINGS: Final = f"{GROUP}/settings"
"""On the pod of a Dedicated database: a digest of its settings, so that a change of them restarts it."""
COMPONENT_POSTGRES: Final = "tenant-postgres"

# --- ClusterRoles that deploy/target-rbac.yaml makes on a target ----------------------------------------------
CLUSTER_ROLE_OPERATOR: Final = "tenantry-operator"
CLUSTER_ROLE_OPERATOR_NAMESPACE: Final = "tenantry-operator-namespace"
"""Bound to the operator inside each tenant's namespace only: Secrets, quotas, policies, Ingress."""
CLUSTER_ROLE_TENANT_ADMIN: Final = "tenantry-tenant-admin"
CLUSTER_ROLE_TENANT_EDIT: Final = "tenantry-tenant-edit"
CLUSTER_ROLE_TENANT_VIEW: Final = "tenantry-tenant-view"
CLUSTER_ROLE_TENANT_SELF_SERVICE: Final = "tenantry-tenant-self-service"
"""NetworkPolicies, Roles and RoleBindings of their own: beside Admin where the plan says selfService."""

RESERVED_NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE)
