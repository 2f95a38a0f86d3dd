{{- /* The site as its owner describes it: an object of the cluster, or with join.secretName a file for `segviz join`. */ -}}
{{- define "segviz-site.manifest" -}}
apiVersion: segviz.dev/v1alpha1
kind: SegVizSite
metadata:
  name: {{ include "segviz-site.name" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "segviz-site.labels" . | nindent 4 }}
spec:
  role: {{ .Values.role | quote }}
  {{- if or .Values.remote .Values.join.secretName }}
  remote: true
  {{- end }}
  suspend: {{ .Values.suspend }}
  allowedFederations:
    {{- range include "segviz-site.allowed" . | fromJsonArray }}
    - {{ toJson . }}
    {{- else }} []
    {{- end }}
  {{- with .Values.limits }}
  limits:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volume:
    {{- if .Values.data.existingClaim }}
    persistentVolumeClaim: {claimName: {{ .Values.data.existingClaim | quote }}}
    {{- else }}
    hostPath: {path: {{ .Values.data.hostPath.path | default "/data" | quote }}}
    {{- end }}
  {{- if not (or .Values.remote .Values.join.secretName) }}
  state:
    persistentVolumeClaim: {claimName: {{ include "segviz-site.stateClaim" . | quote }}}
  {{- end }}
  dataSets:
    {{- toYaml .Values.dataSets | nindent 4 }}
  {{- with .Values.split }}
  split:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  onBadCase: {{ .Values.onBadCase | quote }}
  maxCaseMebibytes: {{ .Values.maxCaseMebibytes | int64 }}
  release: {{ .Values.release | quote }}
  {{- with .Values.privacy }}
  {{- /* As JSON: YAML would get 1e-05, which is a string to some of its readers. */}}
  privacy: {{ toJson . }}
  {{- end }}
  scores: {{ .Values.scores | quote }}
  {{- if ne .Values.fingerprint "None" }}
  fingerprint: {{ .Values.fingerprint | quote }}
  {{- end }}
  {{- with .Values.proxy }}
  {{- if .url }}
  proxy:
    url: {{ .url | quote }}
    {{- with .secretName }}
    secretRef: {name: {{ . | quote }}}
    {{- end }}
  {{- end }}
  {{- end }}
  {{- with include "segviz-site.signing" . | fromJson }}
  signing:
    publicKey: {{ .publicKey | quote }}
    {{- with .secretName }}
    secretRef: {name: {{ . | quote }}}
    {{- end }}
  {{- end }}
  {{- with .Values.storeSecret }}
  storeSecretRef:
    name: {{ . | quote }}
    {{- with $.Values.storeSecretKeys }}
    keys: {{ toJson . }}
    {{- end }}
  {{- end }}
  {{- if not .Values.remote }}
  trainer:
    image: {{ include "segviz-site.image" . | quote }}
    imagePullPolicy: {{ .Values.trainer.image.pullPolicy | quote }}
    serviceAccountName: {{ .Values.serviceAccount.name | quote }}
    {{- range $key := list "imagePullSecrets" "resources" "nodeSelector" "tolerations" "affinity" }}
    {{- with index $.Values.trainer $key }}
    {{ $key }}:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- end }}
    {{- /* As JSON, like privacy: annotations are text, whatever they look like. */}}
    {{- range $key := list "podMetadata" "supplementalGroups" "idleRelease" }}
    {{- with index $.Values.trainer $key }}
    {{ $key }}: {{ toJson . }}
    {{- end }}
    {{- end }}
    {{- range $key := list "priorityClassName" "runtimeClassName" "queueName" "userAssignment" }}
    {{- with index $.Values.trainer $key }}
    {{ $key }}: {{ . | quote }}
    {{- end }}
    {{- end }}
    terminationGracePeriodSeconds: {{ .Values.trainer.terminationGracePeriodSeconds | int64 }}
  {{- end }}
{{- end }}
