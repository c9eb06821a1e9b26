{{/* Names are cut at 50 characters: the StatefulSet adds a hash and the claim of a pod adds its ordinal. */}}
{{- define "cidc.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "cidc.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "cidc.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "cidc.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels that say which pods belong to the release, whatever they do. */}}
{{- define "cidc.releaseLabels" -}}
app.kubernetes.io/name: {{ include "cidc.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of the pods that analyse cameras. */}}
{{- define "cidc.selectorLabels" -}}
{{ include "cidc.releaseLabels" . }}
app.kubernetes.io/component: worker
{{- end }}

{{- define "cidc.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "cidc.releaseLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "cidc.serviceAccountName" -}}
{{- default (ternary (include "cidc.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "cidc.image" -}}
{{- $kind := ternary "gpu" "cpu" .Values.gpu.enabled }}
{{- printf "%s:%s" .Values.image.repository (default (printf "%s-%s" .Chart.AppVersion $kind) .Values.image.tag) }}
{{- end }}

{{/* "true" if many pods share the cameras of a topic. */}}
{{- define "cidc.isFleet" -}}
{{- if .Values.configFrom.secret }}
{{- if .Values.configFrom.fleet }}true{{ end }}
{{- else if (.Values.config.cameras_from).topic }}true{{ end }}
{{- end }}

{{- define "cidc.drainSeconds" -}}
{{- if .Values.configFrom.secret }}
{{- .Values.configFrom.drainSeconds }}
{{- else }}
{{- $kafka := default dict .Values.config.kafka }}
{{- $drain := hasKey $kafka "drain_seconds" | ternary $kafka.drain_seconds 60 }}
{{- range concat (default list .Values.config.webhooks) (default list .Values.config.mqtt) }}
{{- $own := hasKey . "drain_seconds" | ternary .drain_seconds 10 }}
{{- if gt (float64 $own) (float64 $drain) }}{{ $drain = $own }}{{ end }}
{{- end }}
{{- $drain }}
{{- end }}
{{- end }}

{{- define "cidc.graceSeconds" -}}
{{- $drain := include "cidc.drainSeconds" . | float64 }}
{{- $given := .Values.terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $given }}
{{- add (ceil $drain | int) 30 }}
{{- else }}
{{- if le (float64 $given) $drain }}
{{- fail (printf "terminationGracePeriodSeconds: %v must be longer than kafka.drain_seconds (%v): the pod would be killed while it sends its last events" $given $drain) }}
{{- end }}
{{- int $given }}
{{- end }}
{{- end }}

{{/* Whole CPUs of the container's limit, rounded up; 0 without a limit. */}}
{{- define "cidc.cpus" -}}
{{- $cpu := toString (default 0 (.Values.resources.limits).cpu) }}
{{- if hasSuffix "m" $cpu }}
{{- divf (trimSuffix "m" $cpu | float64) 1000 | ceil | int }}
{{- else }}
{{- ceil (float64 $cpu) | int }}
{{- end }}
{{- end }}

{{/* Names of the Services that have a dot and do not end as the pipeline expects names of a cluster to. */}}
{{- define "cidc.hosts" -}}
{{- $names := list }}
{{- range $service := list (include "cidc.fullname" .) (printf "%s-headless" (include "cidc.fullname" .)) }}
{{- $names = append $names (printf "%s.%s" $service $.Release.Namespace) }}
{{- if ne $.Values.clusterDomain "cluster.local" }}
{{- $names = append $names (printf "%s.%s.svc.%s" $service $.Release.Namespace $.Values.clusterDomain) }}
{{- end }}
{{- end }}
{{- toYaml $names }}
{{- end }}

{{/* Settings that follow from the container: folders, port, and files of secrets. */}}
{{- define "cidc.ownedConfig" -}}
http:
  enabled: true
  port: 9108
  {{- if .Values.secrets.httpToken.name }}
  token_file: /run/secrets/http/token
  {{- end }}
outbox:
  path: /var/lib/cidc/outbox.db
snapshots:
  path: /var/lib/cidc/snapshots
infer:
  engine_cache: /var/cache/cidc/engines
{{- with .Values.secrets }}
{{- if or .kafkaPassword.name .kafkaTls.name }}
kafka:
  {{- if .kafkaPassword.name }}
  sasl_password_file: /run/secrets/kafka/password
  {{- end }}
  {{- if .kafkaTls.name }}
  {{- if .kafkaTls.ca }}
  ssl_cafile: /run/secrets/kafka-tls/ca.crt
  {{- end }}
  {{- if .kafkaTls.cert }}
  ssl_certfile: /run/secrets/kafka-tls/tls.crt
  {{- end }}
  {{- if .kafkaTls.key }}
  ssl_keyfile: /run/secrets/kafka-tls/tls.key
  {{- end }}
  {{- end }}
{{- end }}
{{- if .cameras.name }}
cameras_from:
  secrets_dir: /run/secrets/cameras
{{- end }}
{{- end }}
{{- end }}

{{/* The whole cameras.yaml: defaults of the chart, then `config`, then what the chart owns. */}}
{{- define "cidc.config" -}}
{{- $infer := dict }}
{{- if .Values.gpu.enabled }}{{ $_ := set $infer "device" "cuda" }}{{ end }}
{{- with include "cidc.cpus" . | int }}{{ $_ := set $infer "threads" . }}{{ end }}
{{- $config := mustMergeOverwrite (dict "infer" $infer) (deepCopy .Values.config) (include "cidc.ownedConfig" . | fromYaml) }}
{{- $hosts := concat (default list $config.http.hosts) (include "cidc.hosts" . | fromYamlArray) }}
{{- $_ := set $config.http "hosts" (uniq $hosts) }}
{{- if include "cidc.isFleet" . }}{{ $_ := unset $config "cameras" }}{{ end }}
{{- toYaml $config }}
{{- end }}

{{/* Arguments of `cidc-stream run`. A worker is named after its pod, which no configuration file can say. */}}
{{- define "cidc.arguments" -}}
- run
- --config
- /etc/cidc/cameras.yaml
{{- if .Values.configFrom.secret }}
- --set
- http.enabled=true
- --set
- http.host={{ default "0.0.0.0" (.Values.config.http).host }}
- --set
- http.port=9108
- --set
- outbox.path=/var/lib/cidc/outbox.db
- --set
- snapshots.path=/var/lib/cidc/snapshots
- --set
- infer.engine_cache=/var/cache/cidc/engines
{{- end }}
{{- if include "cidc.isFleet" . }}
- --set
- cameras_from.worker=$(POD_NAME)
{{- end }}
{{- end }}
