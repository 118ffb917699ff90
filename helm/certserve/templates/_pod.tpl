{{/* What pods of both shapes share: `(dict "root" $ "server" true)`, false for the head of a Ray cluster. */}}
{{- define "certserve.podSpec" -}}
{{- $values := .root.Values -}}
{{- $gpu := and .server (include "certserve.gpu" .root) -}}
automountServiceAccountToken: false
# Variables named after the services of the namespace could be taken for Ray's.
enableServiceLinks: false
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- if and $gpu $values.gpuRuntimeClassName }}
runtimeClassName: {{ $values.gpuRuntimeClassName | quote }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with $values.userId }}
  {{- if not ($.root.Capabilities.APIVersions.Has "security.openshift.io/v1") }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  {{- end }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := $values.tolerations -}}
{{- if $gpu -}}
{{- $tolerations = append $tolerations (dict "key" $values.gpuResource "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .server }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "certserve.serverSelector" .root | nindent 8 }}
{{- end }}
{{- end }}

{{/* What containers of both shapes share. */}}
{{- define "certserve.container" -}}
image: {{ include "certserve.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/*
Variables of both shapes. The root file system is read-only; the user may be one that the image does not know, and Ray
asks for its name; ONNX Runtime would report to its makers.
*/}}
{{- define "certserve.env" -}}
- {name: HOME, value: /tmp}
- {name: USER, value: certserve}
- {name: ORT_DISABLE_TELEMETRY, value: "1"}
{{- end }}

{{/* Of a server: the values, and one GPU where the provider needs it. */}}
{{- define "certserve.resources" -}}
{{- $resources := deepCopy (.Values.resources | default dict) -}}
{{- if include "certserve.gpu" . -}}
{{- $_ := set $resources "limits" (merge (dict .Values.gpuResource 1) ($resources.limits | default dict)) -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{/* The files of a server. */}}
{{- define "certserve.volumes" -}}
- name: noise-secret
  secret:
    secretName: {{ required "noiseSecret.name is missing: make a Secret of 32 random bytes and name it (values.yaml says how it is used)" .Values.noiseSecret.name | quote }}
    defaultMode: 0440
    items:
      - key: {{ .Values.noiseSecret.key | quote }}
        path: {{ base (include "certserve.secretFile" .) }}
{{- with .Values.signingKey.name }}
- name: signing-key
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
    items:
      - key: {{ $.Values.signingKey.key | quote }}
        path: {{ base (include "certserve.signingKeyFile" $) }}
{{- end }}
{{- with include "certserve.tlsSecret" . }}
- name: tls
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- with .Values.callers.keys.name }}
- name: keys
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- with .Values.callers.jwt.name }}
- name: jwt
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- with .Values.models.existingClaim }}
- name: models
  persistentVolumeClaim:
    claimName: {{ . | quote }}
    readOnly: true
{{- end }}
{{- end }}

{{- define "certserve.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: noise-secret
  mountPath: {{ dir (include "certserve.secretFile" .) }}
  readOnly: true
{{- if .Values.signingKey.name }}
- name: signing-key
  mountPath: {{ dir (include "certserve.signingKeyFile" .) }}
  readOnly: true
{{- end }}
{{- if include "certserve.tlsSecret" . }}
- name: tls
  mountPath: /etc/certserve-tls
  readOnly: true
{{- end }}
{{- if .Values.callers.keys.name }}
- name: keys
  mountPath: /etc/certserve-keys
  readOnly: true
{{- end }}
{{- if .Values.callers.jwt.name }}
- name: jwt
  mountPath: /etc/certserve-jwt
  readOnly: true
{{- end }}
{{- if .Values.models.existingClaim }}
- name: models
  mountPath: {{ .Values.models.path }}
  readOnly: true
{{- end }}
{{- end }}
