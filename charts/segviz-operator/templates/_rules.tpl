{{- /*
What the operator may do. "watch" is a ClusterRole's with scope Cluster, and part of each Role beside federations with
scope Namespaces; "work" is a Role's alone. In a site's namespace that site's own release says what it may do, but for
"look" with scope Namespaces: the operator's watches begin before a site consents.
*/ -}}

{{- define "segviz-operator.rules.look" -}}
- apiGroups: [segviz.dev]
  resources: [segvizfederations, segvizsites]
  verbs: [get, list, watch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch]
{{- end }}

{{- define "segviz-operator.rules.watch" -}}
{{ include "segviz-operator.rules.look" . }}
- apiGroups: [segviz.dev]
  resources: [segvizfederations, segvizfederations/status]
  verbs: [patch]
{{- end }}

{{- define "segviz-operator.rules.work" -}}
# A federation goes ttlSecondsAfterFinished after its end.
- apiGroups: [segviz.dev]
  resources: [segvizfederations]
  verbs: [delete]
# The aggregator and the export.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# Why one of them does not start.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# The store's Secret, and those with expiring credentials made from it.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
# The store's CA bundle.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end }}
