{{/*
The name of every object. KubeRay allows a RayService 47 characters, and a Service begins with a letter and holds no dot,
which a release may do otherwise. A name that has to be changed for that ends with a digest of what it was, so that two
releases never share one.
*/}}
{{- define "certserve.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = ternary .Release.Name (printf "%s-certserve" .Release.Name) (contains "certserve" .Release.Name) -}}
{{- end -}}
{{- if regexMatch "^[a-z]([-a-z0-9]{0,45}[a-z0-9])?$" $name -}}
{{- $name -}}
{{- else -}}
{{- $changed := $name | replace "." "-" -}}
{{- $changed = ternary $changed (printf "certserve-%s" $changed) (regexMatch "^[a-z]" $changed) -}}
{{- printf "%s-%s" ($changed | trunc 38 | trimAll "-") (sha256sum $name | trunc 8) -}}
{{- end -}}
{{- end }}

{{/* The same as a value in YAML: in quotes only where YAML would take the word for a boolean or for nothing. */}}
{{- define "certserve.name" -}}
{{- $name := include "certserve.fullname" . -}}
{{- ternary ($name | quote) $name (regexMatch "^(true|false|yes|no|on|off|y|n|null)$" $name) -}}
{{- end }}

{{- define "certserve.labels" -}}
app.kubernetes.io/name: certserve
{{ include "certserve.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/*
Selects every pod of the release. Without app.kubernetes.io/name: KubeRay's head service selects its own value of that
label, and a head pod with another would be unreachable.
*/}}
{{- define "certserve.selector" -}}
app.kubernetes.io/part-of: certserve
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Selects the pods that answer requests: not the head of a Ray cluster. */}}
{{- define "certserve.serverSelector" -}}
{{ include "certserve.selector" . }}
app.kubernetes.io/component: server
{{- end }}

{{- define "certserve.image" -}}
{{- with .Values.image.digest -}}
{{ $.Values.image.repository }}@{{ . }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
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
