{{- /*
What the API server asks of every Job of the operator, at a site or beside a federation: it must be one that the
operator's own code builds (operator/segviz_operator/cluster/objects). Needs the variables groups, addedLabels,
addedAnnotations and addedEnvironment, which are what a site adds to its Pods, and ownUser: whether their ids are
SegViz's own.
*/ -}}

{{- define "segviz-operator.admission.variables" -}}
- name: pod
  expression: object.spec.template.spec
- name: main
  expression: variables.pod.containers[0]
- name: arguments
  expression: variables.main.?args.orValue([])
- name: role
  expression: object.metadata.?labels[?'segviz.dev/role'].orValue('')
- name: fixedEnvironment
  expression: >-
    {'SEGVIZ_STORE_CREDENTIALS': '/segviz/store/credentials.json', 'SEGVIZ_STORE_CA': '/segviz/store/ca.crt',
    'SEGVIZ_LOG_FORMAT': 'json', 'SEGVIZ_METRICS_PORT': '9090', 'HOME': '/tmp',
    'PYTHONUNBUFFERED': '1', 'PYTHONSAFEPATH': '1', 'SEGVIZ_SITE_POLICY': '/segviz/policy/policy.json',
    'SEGVIZ_PARTY': '/segviz/store/party.json', 'SEGVIZ_SIGNING_KEY': '/segviz/key/private.pem'}
- name: ownKey
  expression: >-
    '^(.*[.])?(segviz[.]dev|(app|batch)[.]kubernetes[.]io|kueue[.]x-k8s[.]io)/|^(job-name|controller-uid)$'
- name: places
  expression: >-
    {'store': '/segviz/store', 'tmp': '/tmp', 'data': '/data', 'state': '/state', 'policy': '/segviz/policy',
    'proxy': '/segviz/proxy', 'key': '/segviz/key'}
- name: stores
  expression: {{ include "segviz-operator.admission.stores" . | quote }}
{{- end }}

{{- /* As the Jobs' arguments name them: s3://host:port/bucket, and s3+http:// without TLS. */ -}}
{{- define "segviz-operator.admission.stores" -}}
{{- $stores := list }}
{{- range .Values.admissionPolicy.stores }}
{{- $stores = append $stores (. | trimSuffix "/" | replace "https://" "s3://" | replace "http://" "s3+http://") }}
{{- end }}
{{- $stores | toJson | replace "\"" "'" }}
{{- end }}

{{- define "segviz-operator.admission.validations" -}}
- expression: >-
    object.spec.?parallelism.orValue(1) == 1 && object.spec.?completions.orValue(1) == 1
    && size(variables.pod.containers) == 1
    && !has(variables.pod.initContainers) && !has(variables.pod.ephemeralContainers)
    && variables.pod.?restartPolicy.orValue('') == 'Never'
  message: the operator's Jobs have one Pod with one container, and no other.
- expression: >-
    object.spec.template.?metadata.?labels[?'app.kubernetes.io/managed-by'].orValue('') == 'segviz-operator'
  message: the operator's Pods carry app.kubernetes.io/managed-by, by which network policies know them.
- expression: >-
    object.spec.template.?metadata.?labels.orValue({}).all(key, key.matches(variables.ownKey)
    || variables.addedLabels[?key].orValue('') == object.spec.template.metadata.labels[key]
    && key in variables.addedLabels)
    && object.spec.template.?metadata.?annotations.orValue({}).all(key, key.matches(variables.ownKey)
    || variables.addedAnnotations[?key].orValue('') == object.spec.template.metadata.annotations[key]
    && key in variables.addedAnnotations)
  message: the operator's Pods have its own labels and those of spec.trainer.podMetadata, and no other metadata.
- expression: >-
    variables.main.?command.orValue([]) == ['python'] && !has(variables.main.workingDir)
    && size(variables.arguments) > 2 && variables.arguments[0] == '-m'
  message: the operator's Jobs run a module of SegViz with python, and no other command.
- expression: >-
    !has(variables.main.lifecycle) && !has(variables.main.livenessProbe) && !has(variables.main.readinessProbe)
    && !has(variables.main.startupProbe) && !has(variables.main.volumeDevices) && !has(variables.main.restartPolicy)
    && !variables.main.?stdin.orValue(false) && !variables.main.?tty.orValue(false)
    && variables.main.?terminationMessagePath.orValue('/dev/termination-log') == '/dev/termination-log'
  message: the operator's containers have no lifecycle hooks, probes, devices or terminal.
- expression: >-
    !has(variables.main.envFrom) && variables.main.?env.orValue([]).all(e, !has(e.valueFrom) && (
    e.name in variables.fixedEnvironment ? e.?value.orValue('') == variables.fixedEnvironment[e.name]
    : e.name in variables.addedEnvironment ? e.?value.orValue('') == variables.addedEnvironment[e.name]
    : (e.name == 'AWS_REGION' && e.?value.orValue('').matches('^[A-Za-z0-9_-]*$'))
    || (e.name in ['OMP_NUM_THREADS', 'MKL_NUM_THREADS'] && e.?value.orValue('').matches('^[0-9]+$'))))
    && variables.main.?env.orValue([]).exists(e, e.name == 'PYTHONSAFEPATH')
  message: the operator's Jobs have the environment that its code writes, none of other names, values or sources.
- expression: >-
    !variables.main.?securityContext.?privileged.orValue(false)
    && !variables.main.?securityContext.?allowPrivilegeEscalation.orValue(true)
    && variables.main.?securityContext.?readOnlyRootFilesystem.orValue(false)
    && variables.main.?securityContext.?capabilities.?drop.orValue([]) == ['ALL']
    && size(variables.main.?securityContext.?capabilities.?add.orValue([])) == 0
    && variables.main.?securityContext.?procMount.orValue('Default') == 'Default'
    && !has(variables.main.securityContext.runAsUser) && !has(variables.main.securityContext.runAsGroup)
    && !has(variables.main.securityContext.runAsNonRoot) && !has(variables.main.securityContext.seLinuxOptions)
    && !has(variables.main.securityContext.windowsOptions) && !has(variables.main.securityContext.seccompProfile)
    && !has(variables.main.securityContext.appArmorProfile)
  message: the operator's containers have the securityContext that its code writes.
- expression: >-
    variables.pod.?securityContext.?runAsNonRoot.orValue(false)
    && (variables.ownUser
    ? variables.pod.?securityContext.?runAsUser.orValue(0) == 65532
    && variables.pod.?securityContext.?runAsGroup.orValue(0) == 65532
    && variables.pod.?securityContext.?fsGroup.orValue(0) == 65532
    : !has(variables.pod.securityContext.runAsUser) && !has(variables.pod.securityContext.runAsGroup)
    && !has(variables.pod.securityContext.fsGroup))
    && variables.pod.?securityContext.?seccompProfile.?type.orValue('') == 'RuntimeDefault'
    && variables.pod.securityContext.?supplementalGroups.orValue([]) == variables.groups
    && !has(variables.pod.securityContext.supplementalGroupsPolicy) && !has(variables.pod.securityContext.sysctls)
    && !has(variables.pod.securityContext.seLinuxOptions) && !has(variables.pod.securityContext.windowsOptions)
    && !has(variables.pod.securityContext.appArmorProfile)
  message: the operator's Pods have the securityContext that its code writes.
- expression: >-
    !variables.pod.?hostNetwork.orValue(false) && !variables.pod.?hostPID.orValue(false)
    && !variables.pod.?hostIPC.orValue(false) && !variables.pod.?shareProcessNamespace.orValue(false)
    && !has(variables.pod.hostUsers) && !has(variables.pod.hostAliases) && !has(variables.pod.dnsConfig)
    && variables.pod.?dnsPolicy.orValue('ClusterFirst') == 'ClusterFirst'
    && !has(variables.pod.nodeName) && !has(variables.pod.resourceClaims)
    && variables.pod.?schedulerName.orValue('default-scheduler') == 'default-scheduler'
    && variables.main.?ports.orValue([]).all(p, !has(p.hostPort) && !has(p.hostIP))
  message: the operator's Pods have nothing of the node, choose no node, and look up names as the cluster does.
- expression: >-
    variables.pod.?automountServiceAccountToken.orValue(true) == false
  message: the operator's Jobs run without the token of their service account.
- expression: >-
    variables.main.?volumeMounts.orValue([]).all(m,
    m.name in variables.places && m.mountPath == variables.places[m.name]
    && !has(m.subPath) && !has(m.subPathExpr) && m.?mountPropagation.orValue('None') == 'None'
    && (!(m.name in ['store', 'data', 'policy', 'proxy', 'key']) || m.?readOnly.orValue(false)))
  message: >-
    the operator mounts store, tmp, data, state and policy at their places, and store, data, policy, the site's key and
    the proxy's Secret read-only.
{{- end }}
