{{- /* Written by tools/charts.py from values.yaml: what is null counts as left out. */ -}}
{{- define "segviz-site.defaults" -}}
{
  "name": "",
  "role": "Training",
  "remote": false,
  "join": {
    "secretName": ""
  },
  "suspend": false,
  "allowedFederations": [],
  "limits": {},
  "operator": {
    "namespace": "segviz-system",
    "serviceAccountName": "segviz-operator"
  },
  "dataSets": [],
  "split": {},
  "onBadCase": "Refuse",
  "maxCaseMebibytes": 2048,
  "release": "None",
  "privacy": {},
  "scores": "Summary",
  "fingerprint": "None",
  "data": {
    "existingClaim": "",
    "hostPath": {
      "path": "",
      "allow": false
    }
  },
  "state": {
    "existingClaim": "",
    "size": "50Gi",
    "storageClassName": "",
    "accessModes": [
      "ReadWriteOnce"
    ],
    "keep": true
  },
  "trainer": {
    "image": {
      "registry": "",
      "repository": "segviz-trainer",
      "tag": "",
      "digest": "",
      "pullPolicy": "IfNotPresent"
    },
    "imagePullSecrets": [],
    "resources": {
      "requests": {
        "cpu": "2",
        "memory": "8Gi"
      },
      "limits": {
        "memory": "16Gi"
      }
    },
    "nodeSelector": {},
    "tolerations": [],
    "affinity": {},
    "priorityClassName": "",
    "runtimeClassName": "",
    "queueName": "",
    "podMetadata": {},
    "supplementalGroups": [],
    "terminationGracePeriodSeconds": 120,
    "idleRelease": {},
    "userAssignment": "Fixed"
  },
  "serviceAccount": {
    "create": true,
    "name": "segviz-trainer",
    "annotations": {}
  },
  "storeSecret": "",
  "storeSecretKeys": {},
  "proxy": {
    "url": "",
    "secretName": ""
  },
  "signing": {
    "enabled": true,
    "existingSecret": "",
    "publicKey": ""
  },
  "networkPolicy": {
    "enabled": true,
    "wholeNamespace": true,
    "store": {
      "cidrs": [],
      "peers": [],
      "ports": [
        443,
        9000
      ]
    },
    "proxy": {
      "cidrs": [],
      "peers": []
    },
    "dns": {
      "namespace": "kube-system",
      "podLabels": {},
      "cidrs": [],
      "ports": [
        53
      ]
    },
    "metrics": {
      "namespace": ""
    },
    "extraEgress": []
  },
  "monitoring": {
    "podMonitor": {
      "enabled": false,
      "additionalLabels": {},
      "interval": "30s"
    }
  },
  "commonLabels": {},
  "extraObjects": []
}
{{- end }}

{{- define "segviz-site.complete" -}}
{{- $defaults := include "segviz-site.defaults" . | fromJson -}}
{{- include "segviz-site.fill" (dict "into" .Values "from" $defaults) -}}
{{- end }}

{{- /* Resources and labels are the user's own maps: a key of those may be taken away. */ -}}
{{- define "segviz-site.fill" -}}
{{- $into := .into -}}
{{- range $key, $default := .from -}}
{{- if or (not (hasKey $into $key)) (kindIs "invalid" (get $into $key)) -}}
{{- $_ := set $into $key $default -}}
{{- else if and (kindIs "map" $default) (not (has $key (list "resources" "labels"))) -}}
{{- include "segviz-site.fill" (dict "into" (get $into $key) "from" $default) -}}
{{- end -}}
{{- end -}}
{{- end }}
