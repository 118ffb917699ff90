{{/*
The Serve configuration. The options of an actor replace those of the code, so they are complete: a gateway asks for a
part of a CPU, which the head does not have, and all processes of a pod keep their counts in one folder.
*/}}
{{- define "certserve.serveConfig" -}}
# No way in of Serve's own: each gateway listens itself, on the ports of `args`.
proxy_location: Disabled
applications:
  - name: certserve
    route_prefix: null
    import_path: serving.deployments.on_ray:application
    args:
      models: {{ .Values.models.path }}
      {{- include "certserve.settings" . | nindent 6 }}
      gateways: {{ .Values.replicas }}
      engines: {{ .Values.replicas }}
    deployments:
      - name: gateway
        num_replicas: {{ .Values.replicas }}
        max_replicas_per_node: 1
        graceful_shutdown_timeout_s: {{ add (include "certserve.deadlineSeconds" .) 15 }}
        ray_actor_options:
          num_cpus: 0.1
          runtime_env: {env_vars: {PROMETHEUS_MULTIPROC_DIR: /tmp/certserve-metrics}}
      - name: engine
        num_replicas: {{ .Values.replicas }}
        max_replicas_per_node: 1
        graceful_shutdown_timeout_s: {{ add (include "certserve.deadlineSeconds" .) 15 }}
        ray_actor_options:
          {{ ternary "num_gpus" "num_cpus" (eq (include "certserve.gpu" .) "true") }}: 1
          runtime_env: {env_vars: {PROMETHEUS_MULTIPROC_DIR: /tmp/certserve-metrics}}
{{- end }}

{{/* The pod template of a worker (`server` true) or of the head. KubeRay puts the command, `ray start`. */}}
{{- define "certserve.rayPod" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "certserve.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ ternary "server" "head" .server }}
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "certserve.podSpec" . | nindent 2 }}
  # Longer than the pause and the longest request.
  terminationGracePeriodSeconds: {{ add $values.preStopSeconds (include "certserve.deadlineSeconds" .root) 15 }}
  containers:
    - name: {{ ternary "ray-worker" "ray-head" .server }}
      {{- include "certserve.container" .root | nindent 6 }}
      env:
        {{- include "certserve.env" .root | nindent 8 }}
        # Ray's processes read these when they start, before any code of the server runs.
        - {name: RAY_USAGE_STATS_ENABLED, value: "0"}
        - {name: RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD, value: "0"}
        - {name: RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP, value: "0"}
        - {name: RAY_SERVE_USE_GRPC_BY_DEFAULT, value: "1"}
        - {name: RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE, value: "1000"}
        - {name: RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH, value: "2147483647"}
        - {name: RAY_SERVE_LOG_TO_STDERR, value: "1"}
        - {name: RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO, value: "0"}
        # How long a node that is told to stop lets requests finish.
        - {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ include "certserve.deadlineSeconds" .root | quote }}}
      ports:
        # KubeRay's Service takes the ports of the head container that are named serve or serve-*.
        - {name: serve, containerPort: 8000}
        - {name: serve-grpc, containerPort: 8001}
        - {name: {{ ternary "metrics" "dashboard" .server }}, containerPort: {{ ternary 8002 8265 .server }}}
        {{- if not .server }}
        - {name: gcs-server, containerPort: 6379}
        {{- end }}
      resources:
        {{- if .server }}
        {{- include "certserve.resources" .root | nindent 8 }}
        {{- else }}
        {{- toYaml ($values.ray.headResources | default dict) | nindent 8 }}
        {{- end }}
      # Of the Ray node: it is alive before the application is sent to it.
      startupProbe:
        httpGet: {path: /api/healthz, port: 52365}
        periodSeconds: 5
        failureThreshold: {{ div (add $values.startupSeconds 4) 5 }}
      livenessProbe:
        httpGet: {path: /api/healthz, port: 52365}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        {{- if .server }}
        # Of the server: requests come to a worker once its models are proven.
        httpGet: {path: /v2/health/ready, port: serve, scheme: {{ include "certserve.scheme" .root }}}
        failureThreshold: 2
        {{- else }}
        httpGet: {path: /api/healthz, port: 52365}
        failureThreshold: 6
        {{- end }}
        periodSeconds: 5
        timeoutSeconds: 5
      {{- if .server }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ $values.preStopSeconds }}
      {{- end }}
      volumeMounts:
        - {name: shm, mountPath: /dev/shm}
        {{- if .server }}
        {{- include "certserve.mounts" .root | nindent 8 }}
        {{- else }}
        - {name: tmp, mountPath: /tmp}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    - name: shm
      emptyDir:
        medium: Memory
        # Beside the object store, what Ray's channels take.
        sizeLimit: {{ add (int64 $values.ray.objectStoreBytes) 268435456 | quote }}
    {{- if .server }}
    {{- include "certserve.volumes" .root | nindent 4 }}
    {{- end }}
{{- end }}
