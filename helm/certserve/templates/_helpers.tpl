{{/* The name of every object. KubeRay allows a RayService 47 characters. */}}
{{- define "certserve.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = ternary .Release.Name (printf "%s-certserve" .Release.Name) (contains "certserve" .Release.Name) -}}
{{- end -}}
{{- $name | trunc 47 | trimSuffix "-" -}}
{{- end }}

{{- define "certserve.labels" -}}
app.kubernetes.io/name: certserve
{{ include "certserve.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/*
Selects every pod of the release. Without app.kubernetes.io/name: KubeRay's head service selects its own value of that
label, and a head pod with another would be unreachable.
*/}}
{{- define "certserve.selector" -}}
app.kubernetes.io/part-of: certserve
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Selects the pods that answer requests: not the head of a Ray cluster. */}}
{{- define "certserve.serverSelector" -}}
{{ include "certserve.selector" . }}
app.kubernetes.io/component: server
{{- end }}

{{- define "certserve.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "certserve.secretFile" -}}
/etc/certserve/noise-secret
{{- end }}

{{- define "certserve.signingKeyFile" -}}
/etc/certserve-signing/signing-key
{{- end }}

{{- define "certserve.gpu" -}}
{{- if ne .Values.provider "cpu" }}true{{ end -}}
{{- end }}

{{/* Seconds that the longest request may take. */}}
{{- define "certserve.deadlineSeconds" -}}
{{ div (add (int64 .Values.limits.maxDeadlineMs) 999) 1000 }}
{{- end }}

{{/* Every setting of the server, by its flat name: flags of `certserve serve`, arguments of the Serve application. */}}
{{- define "certserve.settings" -}}
host: 0.0.0.0
http_port: 8000
grpc_port: 8001
metrics_port: 8002
noise_secret_file: {{ include "certserve.secretFile" . }}
{{- if .Values.signingKey.name }}
signing_key_file: {{ include "certserve.signingKeyFile" . }}
{{- end }}
provider: {{ .Values.provider }}
runtime: {{ .Values.runtime | quote }}
threads: {{ int64 .Values.threads }}
{{- range $name, $value := .Values.limits }}
{{ snakecase $name }}: {{ int64 $value }}
{{- end }}
{{- end }}
