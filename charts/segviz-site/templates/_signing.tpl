{{- /*
The site's key, as {publicKey, secretName, pem}; {} of a site that does not sign. It is made once, and read back from the
cluster ever after. Where nothing can be looked up (helm template, GitOps) none is made: each rendering would make another.
*/ -}}
{{- define "segviz-site.signing" -}}
{{- if not (hasKey .Values.signing "found") }}
{{- $found := dict }}
{{- with .Values.signing }}
{{- if .existingSecret }}
{{- $found = dict "publicKey" .publicKey "secretName" .existingSecret }}
{{- else if .publicKey }}
{{- $found = dict "publicKey" .publicKey }}
{{- else if and .enabled (not (or $.Values.remote $.Values.join.secretName)) }}
{{- $name := printf "%s-key" (include "segviz-site.name" $) }}
{{- $secret := lookup "v1" "Secret" $.Release.Namespace $name }}
{{- $pem := "" }}
{{- if $secret }}
{{- $pem = index (default dict $secret.data) "private.pem" | default "" | b64dec }}
{{- else if lookup "v1" "ServiceAccount" $.Release.Namespace "default" }}
{{- $pem = genPrivateKey "ed25519" }}
{{- end }}
{{- if $pem }}
{{- $found = dict "publicKey" (include "segviz-site.publicKey" $pem) "secretName" $name "pem" $pem }}
{{- end }}
{{- end }}
{{- end }}
{{- $_ := set .Values.signing "found" $found }}
{{- end }}
{{- .Values.signing.found | toJson }}
{{- end }}

{{- /* Of a private key as PEM: what follows the header of an Ed25519 key in a certificate (RFC 8410). */ -}}
{{- define "segviz-site.publicKey" -}}
{{- $certificate := (genSelfSignedCertWithKey "segviz" nil nil 1 .).Cert }}
{{- $der := regexReplaceAll "-----[A-Z ]+-----|\\s" $certificate "" | b64dec | printf "%x" }}
{{- regexFind "302a300506032b6570032100[0-9a-f]{64}" $der | trimPrefix "302a300506032b6570032100" }}
{{- end }}
