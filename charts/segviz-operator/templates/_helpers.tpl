{{- define "segviz-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: segviz
{{ include "segviz-operator.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "segviz-operator.selector" -}}
app.kubernetes.io/name: segviz-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* Of cluster-wide objects: two releases, each for its own namespaces, must not meet. */ -}}
{{- define "segviz-operator.clusterName" -}}
{{ printf "segviz-operator:%s" .Release.Namespace }}
{{- end }}

{{- /* Takes (dict "image" … "appVersion" …). */ -}}
{{- define "segviz-operator.image" -}}
{{- $name := .image.repository -}}
{{- if .image.registry }}{{ $name = printf "%s/%s" (trimSuffix "/" .image.registry) $name }}{{ end -}}
{{- if .image.digest -}}
{{ printf "%s@%s" $name .image.digest }}
{{- else -}}
{{ printf "%s:%s" $name (.image.tag | default .appVersion) }}
{{- end -}}
{{- end }}

{{- /* A JSON list of the namespaces in which federations are made. */ -}}
{{- define "segviz-operator.federationNamespaces" -}}
{{ .Values.federationNamespaces | default (list .Release.Namespace) | uniq | toJson }}
{{- end }}

{{- /* PodSecurity's `restricted`, and more: a root file system that nobody writes. */ -}}
{{- define "segviz-operator.podSecurity" -}}
runAsNonRoot: true
{{- if eq .Values.userAssignment "Fixed" }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "segviz-operator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* A Pod that the operator makes, as its code reads it. Takes (dict "pod" … "account" … "appVersion" … "userAssignment" …).
*/ -}}
{{- define "segviz-operator.pod" -}}
{{- $pod := dict
  "image" (include "segviz-operator.image" (dict "image" .pod.image "appVersion" .appVersion))
  "imagePullPolicy" .pod.image.pullPolicy
  "serviceAccountName" .account
  "resources" .pod.resources
  "userAssignment" .userAssignment
-}}
{{- range $key := list "imagePullSecrets" "nodeSelector" "tolerations" "affinity" "priorityClassName" "queueName" "podMetadata" }}
{{- with index $.pod $key }}{{ $_ := set $pod $key . }}{{ end }}
{{- end }}
{{- $pod | toJson }}
{{- end }}
