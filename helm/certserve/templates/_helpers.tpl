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

{{/* The Secret of the certificate, empty where there is no TLS. */}}
{{- define "certserve.tlsSecret" -}}
{{- if and .Values.tls.secretName .Values.tls.issuerRef -}}
{{- fail "tls.secretName and tls.issuerRef are both set: give the Secret that exists, or the issuer of one that cert-manager makes" -}}
{{- end -}}
{{- if .Values.tls.issuerRef -}}
{{ include "certserve.fullname" . }}-tls
{{- else -}}
{{ .Values.tls.secretName }}
{{- end -}}
{{- end }}

{{- define "certserve.scheme" -}}
{{ ternary "HTTPS" "HTTP" (ne (include "certserve.tlsSecret" .) "") }}
{{- end }}

{{/* The issuer's public keys, as a file or a URL; empty where tokens are not accepted. */}}
{{- define "certserve.jwtKeys" -}}
{{- with .Values.callers.jwt -}}
{{- if and .name .url -}}
{{- fail "callers.jwt.name and callers.jwt.url are both set: take the public keys from the Secret or from the URL" -}}
{{- end -}}
{{- if and (or .name .url) (not (and .issuer .audience)) -}}
{{- fail "callers.jwt.issuer and callers.jwt.audience are missing: a token is accepted of one issuer, for one audience" -}}
{{- end -}}
{{- if .name -}}
/etc/certserve-jwt/{{ .key }}
{{- else -}}
{{ .url }}
{{- end -}}
{{- end -}}
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
{{- if include "certserve.tlsSecret" . }}
tls_cert_file: /etc/certserve-tls/tls.crt
tls_key_file: /etc/certserve-tls/tls.key
{{- end }}
{{- with .Values.callers }}
{{- if .keys.name }}
keys_file: /etc/certserve-keys/{{ .keys.key }}
{{- end }}
{{- if include "certserve.jwtKeys" $ }}
jwt_keys: {{ include "certserve.jwtKeys" $ | quote }}
jwt_issuer: {{ .jwt.issuer | quote }}
jwt_audience: {{ .jwt.audience | quote }}
jwt_leeway_s: {{ int64 .jwt.leewaySeconds }}
{{- end }}
metadata: {{ .metadata }}
page: {{ $.Values.page }}
cors_origins: {{ $.Values.corsOrigins | default "" | quote }}
caller_draws_per_second: {{ int64 .drawsPerSecond }}
caller_draws_per_day: {{ int64 .drawsPerDay }}
{{- end }}
provider: {{ .Values.provider }}
runtime: {{ .Values.runtime | quote }}
threads: {{ int64 .Values.threads }}
{{- range $name, $value := .Values.limits }}
{{ snakecase $name }}: {{ int64 $value }}
{{- end }}
{{- end }}
