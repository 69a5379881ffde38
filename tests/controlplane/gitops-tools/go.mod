module tenantry.io/tests/gitops-tools

go 1.26

require github.com/argoproj/argo-cd/v3 v3.5.7
require github.com/fluxcd/kustomize-controller v1.9.6
require github.com/fluxcd/source-controller v1.9.6
