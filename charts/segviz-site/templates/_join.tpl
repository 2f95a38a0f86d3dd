{{- /* The Pod of `segviz join`: as the operator makes a trainer's, with the join file in place of its Secret. */ -}}
{{- define "segviz-site.joinPod" -}}
{{- $added := .Values.trainer.podMetadata -}}
{{- /* 0440 or 0444: the cluster's ids may be in no group of the volume's. */ -}}
{{- $mode := ternary 288 292 (eq .Values.trainer.userAssignment "Fixed") -}}
metadata:
  labels:
    {{- with $added.labels }}
    {{- range $key, $value := . }}
    {{ $key | quote }}: {{ $value | quote }}
    {{- end }}
    {{- end }}
    {{- include "segviz-site.podLabels" . | nindent 4 }}
  {{- with $added.annotations }}
  annotations: {{ toJson . }}
  {{- end }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ .Values.serviceAccount.name | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # The trainer's own time, and some for its end to be noted.
  terminationGracePeriodSeconds: {{ add (.Values.trainer.terminationGracePeriodSeconds | int64) 15 }}
  {{- with .Values.trainer.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
  {{- with index $.Values.trainer $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- range $key := list "priorityClassName" "runtimeClassName" }}
  {{- with index $.Values.trainer $key }}
  {{ $key }}: {{ . | quote }}
  {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    {{- if eq .Values.trainer.userAssignment "Fixed" }}
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    {{- end }}
    seccompProfile: {type: RuntimeDefault}
    {{- with .Values.trainer.supplementalGroups }}
    supplementalGroups: {{ toJson . }}
    {{- end }}
  containers:
    - name: join
      image: {{ include "segviz-site.image" . | quote }}
      imagePullPolicy: {{ .Values.trainer.image.pullPolicy | quote }}
      command: [segviz, join, /segviz/join/join.json, --site, /segviz/site/site.yaml, --data, /data, --state, /state]
      env:
        - {name: SEGVIZ_METRICS_PORT, value: "9090"}
        - {name: PYTHONUNBUFFERED, value: "1"}
        - {name: PYTHONSAFEPATH, value: "1"}
        - {name: HOME, value: /tmp}
        {{- if .Values.proxy.secretName }}
        - {name: SEGVIZ_STORE_PROXY_SECRET, value: /segviz/proxy}
        {{- end }}
      ports:
        - {name: metrics, containerPort: 9090}
      {{- with .Values.trainer.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: join, mountPath: /segviz/join, readOnly: true}
        - {name: site, mountPath: /segviz/site, readOnly: true}
        - {name: data, mountPath: /data, readOnly: true}
        - {name: state, mountPath: /state}
        - {name: tmp, mountPath: /tmp}
        {{- if .Values.proxy.secretName }}
        - {name: proxy, mountPath: /segviz/proxy, readOnly: true}
        {{- end }}
  volumes:
    - name: join
      secret: {secretName: {{ .Values.join.secretName | quote }}, defaultMode: {{ $mode }}}
    - name: site
      configMap: {name: {{ printf "%s-site" (include "segviz-site.name" . | replace "." "-" | trunc 40 | trimSuffix "-") | quote }}}
    - name: data
      {{- if .Values.data.existingClaim }}
      persistentVolumeClaim: {claimName: {{ .Values.data.existingClaim | quote }}, readOnly: true}
      {{- else }}
      hostPath: {path: {{ .Values.data.hostPath.path | quote }}, type: Directory}
      {{- end }}
    - name: state
      persistentVolumeClaim: {claimName: {{ include "segviz-site.stateClaim" . | quote }}}
    - name: tmp
      emptyDir: {sizeLimit: 4Gi}
    {{- if .Values.proxy.secretName }}
    - name: proxy
      secret: {secretName: {{ .Values.proxy.secretName | quote }}, defaultMode: {{ $mode }}}
    {{- end }}
{{- end }}
