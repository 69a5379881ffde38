{{/* The labels of every object. */}}
{{- define "tenantry.labels" -}}
{{ include "tenantry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The same with labels of the user's own beside them: (list . labels). */}}
{{- define "tenantry.labelsAnd" -}}
{{ mergeOverwrite (dict) (index . 1) (include "tenantry.labels" (index . 0) | fromYaml) | toYaml }}
{{- end }}

{{/* What never changes while the release lives: selectors can't. */}}
{{- define "tenantry.selector" -}}
app.kubernetes.io/name: tenantry
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tenantry.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The name is in the rights, in the admission policies on targets and in every kubeconfig of a target. */}}
{{- define "tenantry.namespace" -}}
{{- if ne .Release.Namespace "tenantry-system" }}
{{- fail (printf "the namespace is %q: Tenantry is installed in tenantry-system and nowhere else, for targets know the operator by that name. Say --namespace tenantry-system" .Release.Namespace) }}
{{- end -}}
tenantry-system
{{- end }}

{{/* Of every container of the chart; with the pod's, what Pod Security `restricted` asks for and more. */}}
{{- define "tenantry.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{- define "tenantry.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ int64 . }}
{{- end }}
{{- with .Values.runAsGroup }}
runAsGroup: {{ int64 . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}
