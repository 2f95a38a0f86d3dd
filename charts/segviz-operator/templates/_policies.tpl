{{- /* Rules of NetworkPolicies, shared by all of this chart's. */ -}}

{{- define "segviz-operator.toDns" -}}
{{- with .Values.networkPolicy.dns }}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .namespace | quote }}
      podSelector:
        matchLabels:
          {{- .podLabels | default (dict "k8s-app" "kube-dns") | toYaml | nindent 10 }}
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports:
    {{- range .ports }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end }}

{{- define "segviz-operator.toMore" -}}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "segviz-operator.toStore" -}}
{{- with .Values.networkPolicy.store }}
{{- if or .cidrs .peers }}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
    {{- with .peers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end }}
{{- if .Values.trialStore.enabled }}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Release.Namespace | quote }}
      podSelector:
        matchLabels:
          app.kubernetes.io/name: segviz-trial-store
          app.kubernetes.io/instance: {{ .Release.Name | quote }}
  ports:
    - {protocol: TCP, port: 9000}
{{- end }}
{{- end }}

{{- define "segviz-operator.toApiServer" -}}
{{- with .Values.networkPolicy.apiServer }}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end }}

{{- define "segviz-operator.fromMonitoring" -}}
{{- with .Values.networkPolicy.metrics.namespace }}
- from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ . | quote }}
  ports:
    - {protocol: TCP, port: 9090}
{{- end }}
{{- end }}
