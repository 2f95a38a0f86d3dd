{{- define "segviz-site.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
app.kubernetes.io/name: segviz-site
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: segviz
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "segviz-site.name" -}}
{{ .Values.name | default .Release.Name }}
{{- end }}

{{- define "segviz-site.image" -}}
{{- with .Values.trainer.image -}}
{{- $name := .repository -}}
{{- if .registry }}{{ $name = printf "%s/%s" (trimSuffix "/" .registry) $name }}{{ end -}}
{{- if .digest -}}
{{ printf "%s@%s" $name .digest }}
{{- else -}}
{{ printf "%s:%s" $name (.tag | default $.Chart.AppVersion) }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "segviz-site.stateClaim" -}}
{{ .Values.state.existingClaim | default (printf "%s-state" (include "segviz-site.name" .)) }}
{{- end }}

{{- /* The consent to a federation, given as namespace/name. The operator looks for this very name. */ -}}
{{- define "segviz-site.consent" -}}
{{ printf "segviz:consent:%s" (replace "/" ":" .) }}
{{- end }}

{{- /* A JSON list of the federations that are let in, as the SegVizSite names them. */ -}}
{{- define "segviz-site.allowed" -}}
{{- $allowed := list }}
{{- $uids := dict }}
{{- range .Values.allowedFederations | uniq }}
{{- $pinned := splitn "@" 2 . }}
{{- $name := $pinned._0 }}
{{- if hasKey $uids $name }}
{{- fail (printf "allowedFederations lists %s twice, with other UIDs or without one. List it once." $name) }}
{{- end }}
{{- $_ := set $uids $name true }}
{{- $parts := splitn "/" 2 $name }}
{{- $federation := dict "namespace" $parts._0 "name" $parts._1 }}
{{- with $pinned._1 }}{{ $_ := set $federation "uid" . }}{{ end }}
{{- $allowed = append $allowed $federation }}
{{- end }}
{{- $allowed | toJson }}
{{- end }}

{{- /* A JSON list of their names, as namespace/name. */ -}}
{{- define "segviz-site.federations" -}}
{{- $names := list }}
{{- range include "segviz-site.allowed" . | fromJsonArray }}{{ $names = append $names (printf "%s/%s" .namespace .name) }}{{ end }}
{{- $names | toJson }}
{{- end }}

{{- /* By which policies and monitors know the Pods that work here. */ -}}
{{- define "segviz-site.podLabels" -}}
{{- if .Values.join.secretName -}}
app.kubernetes.io/name: segviz-site
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: join
{{- else -}}
app.kubernetes.io/managed-by: segviz-operator
{{- end -}}
{{- end }}
