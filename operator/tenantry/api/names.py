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

# --- claims in SYSTEM_NAMESPACE on a target -------------------------------------------------------------------
LABEL_CLAIM: Final = f"{GROUP}/claim"
CLAIM_HOST: Final = "host"
ANNOTATION_HOST: Final = f"{GROUP}/host"

# --- on the token Secrets that `tenantry cluster join` makes on a target --------------------------------------
LABEL_JOINED_BY: Final = f"{GROUP}/joined-by"
"""The UID of the management cluster's kube-system: another management cluster's tokens stay."""
ANNOTATION_CLUSTER: Final = f"{GROUP}/cluster"
"""The Cluster that the token was made for."""

# --- what people set on the custom resources ------------------------------------------------------------------
LABEL_ENV_SECRET: Final = f"{GROUP}/env"
"""`"true"` on a Secret of a workspace that its tenants may take their environment from."""
ANNOTATION_REQUESTED_AT: Final = f"{GROUP}/requestedAt"
ANNOTATION_ACCEPT_IDENTITY: Final = f"{GROUP}/accept-identity"

# --- fixed object names in a tenant's namespace ---------------------------------------------------------------
SECRET_DATABASE: Final = "tenant-database"
SECRET_ENV: Final = "tenant-env"
CONFIG_MAP_INFO: Final = "tenant-info"
SERVICE_ACCOUNT: Final = "tenant"
RESOURCE_QUOTA: Final = "tenant"
LIMIT_RANGE: Final = "tenant"
INGRESS: Final = "tenant"
INGRESS_OWN_CERTIFICATES: Final = "tenant-own-certificates"
OPERATOR_ROLE_BINDING: Final = "tenantry-operator"

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
