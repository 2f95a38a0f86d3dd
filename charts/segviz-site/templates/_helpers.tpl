{{- define "segviz-site.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
app.kubernetes.io/name: segviz-site
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: segviz
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

{{- /* A JSON list of the federations that are let in, without the UIDs that the site asks for. */ -}}
{{- define "segviz-site.federations" -}}
{{- $names := list }}
{{- range .Values.allowedFederations }}{{ $names = append $names (first (splitList "@" .)) }}{{ end }}
{{- $names | uniq | toJson }}
{{- end }}
