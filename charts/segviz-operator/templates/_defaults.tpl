{{- /* Written by tools/charts.py from values.yaml: what is null counts as left out. */ -}}
{{- define "segviz-operator.defaults" -}}
{
  "image": {
    "registry": "",
    "repository": "segviz-operator",
    "tag": "",
    "digest": "",
    "pullPolicy": "IfNotPresent"
  },
  "imagePullSecrets": [],
  "scope": "Cluster",
  "federationNamespaces": [],
  "siteNamespaces": [],
  "serviceAccount": {
    "name": "segviz-operator",
    "annotations": {}
  },
  "rbac": {
    "aggregate": true
  },
  "admissionPolicy": {
    "enabled": false,
    "stores": []
  },
  "signing": {
    "enabled": true
  },
  "aggregator": {
    "image": {
      "registry": "",
      "repository": "segviz-aggregator",
      "tag": "",
      "digest": "",
      "pullPolicy": "IfNotPresent"
    },
    "imagePullSecrets": [],
    "resources": {
      "requests": {
        "cpu": "500m",
        "memory": "512Mi"
      },
      "limits": {
        "memory": "2Gi"
      }
    },
    "nodeSelector": {},
    "tolerations": [],
    "affinity": {},
    "priorityClassName": "",
    "queueName": "",
    "podMetadata": {},
    "serviceAccount": {
      "annotations": {}
    }
  },
  "export": {
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
        "cpu": "500m",
        "memory": "1Gi"
      },
      "limits": {
        "memory": "4Gi"
      }
    },
    "nodeSelector": {},
    "tolerations": [],
    "affinity": {},
    "priorityClassName": "",
    "queueName": "",
    "podMetadata": {}
  },
  "webIdentity": {
    "stsEndpoint": "",
    "roleArn": "",
    "audience": "sts.amazonaws.com"
  },
  "userAssignment": "Fixed",
  "stuckAfterSeconds": 120,
  "resources": {
    "requests": {
      "cpu": "100m",
      "memory": "128Mi"
    },
    "limits": {
      "memory": "512Mi"
    }
  },
  "extraEnv": [],
  "extraVolumes": [],
  "extraVolumeMounts": [],
  "commonLabels": {},
  "podLabels": {},
  "podAnnotations": {},
  "nodeSelector": {},
  "tolerations": [],
  "affinity": {},
  "priorityClassName": "",
  "networkPolicy": {
    "enabled": true,
    "store": {
      "cidrs": [],
      "peers": [],
      "ports": [
        443,
        9000
      ]
    },
    "apiServer": {
      "cidrs": [],
      "ports": [
        443,
        6443
      ]
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
      "namespace": "monitoring"
    },
    "extraEgress": []
  },
  "monitoring": {
    "annotations": false,
    "service": {
      "enabled": false
    },
    "serviceMonitor": {
      "enabled": false,
      "additionalLabels": {},
      "interval": "30s"
    },
    "podMonitor": {
      "enabled": false,
      "additionalLabels": {},
      "interval": "30s"
    },
    "dashboards": {
      "enabled": false,
      "labels": {
        "grafana_dashboard": "1"
      },
      "annotations": {},
      "namespace": ""
    },
    "rules": {
      "enabled": false,
      "additionalLabels": {}
    },
    "runbooks": "https://github.com/segviz/segviz/blob/main/docs/how-to/runbooks"
  },
  "trialStore": {
    "enabled": false,
    "image": "",
    "pullPolicy": "IfNotPresent",
    "existingSecret": "",
    "command": [
      "minio",
      "server",
      "/data",
      "--address",
      ":9000"
    ],
    "bucket": "segviz",
    "size": "",
    "storageClassName": "",
    "resources": {
      "requests": {
        "cpu": "100m",
        "memory": "256Mi"
      },
      "limits": {
        "memory": "2Gi"
      }
    }
  },
  "extraObjects": []
}
{{- end }}

{{- define "segviz-operator.complete" -}}
{{- $defaults := include "segviz-operator.defaults" . | fromJson -}}
{{- include "segviz-operator.fill" (dict "into" .Values "from" $defaults) -}}
{{- end }}

{{- /* Resources and labels are the user's own maps: a key of those may be taken away. */ -}}
{{- define "segviz-operator.fill" -}}
{{- $into := .into -}}
{{- range $key, $default := .from -}}
{{- if or (not (hasKey $into $key)) (kindIs "invalid" (get $into $key)) -}}
{{- $_ := set $into $key $default -}}
{{- else if and (kindIs "map" $default) (not (has $key (list "resources" "labels"))) -}}
{{- include "segviz-operator.fill" (dict "into" (get $into $key) "from" $default) -}}
{{- end -}}
{{- end -}}
{{- end }}
