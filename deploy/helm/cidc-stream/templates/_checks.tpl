{{/* Rules between values, which a JSON schema could refuse only with an unclear message. */}}
{{- define "cidc.checks" -}}
{{- $fleet := include "cidc.isFleet" . }}
{{- $scaled := ne .Values.autoscaling.kind "none" }}
{{- $maximum := ternary .Values.autoscaling.maxReplicas .Values.replicas $scaled | int }}
{{- if and (not $fleet) (gt (int .Values.replicas) 1) }}
{{- fail (printf "replicas: %v pods would all analyse the same cameras; set config.cameras_from.topic, so that they share them, or replicas: 1" .Values.replicas) }}
{{- end }}
{{- if and $scaled (not $fleet) }}
{{- fail (printf "autoscaling.kind: %s needs config.cameras_from.topic: otherwise every pod analyses the same cameras" .Values.autoscaling.kind) }}
{{- end }}
{{- if and $scaled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail (printf "autoscaling.minReplicas: %v is more than maxReplicas: %v" .Values.autoscaling.minReplicas .Values.autoscaling.maxReplicas) }}
{{- end }}
{{- if and $scaled (eq (include "cidc.cpus" .) "0") }}
{{- fail "autoscaling.kind: cidc_worker_load is a fraction of the CPUs that the pod may use; set resources.limits.cpu, or it would be a fraction of the node's" }}
{{- end }}
{{- with (.Values.config.cameras_from).max_load }}
{{- if and $scaled (le (float64 .) (float64 $.Values.autoscaling.targetLoad)) }}
{{- fail (printf "autoscaling.targetLoad: %v must be below config.cameras_from.max_load: %v, or cameras would wait and no worker would be added" $.Values.autoscaling.targetLoad .) }}
{{- end }}
{{- end }}
{{- if and $fleet (not .Values.configFrom.secret) }}
{{- $from := .Values.config.cameras_from }}
{{- if .Values.config.cameras }}
{{- fail "config.cameras and config.cameras_from.topic are both given; import the cameras into the topic (cidc-stream cameras import FILE) and remove config.cameras" }}
{{- end }}
{{- if not (or $from.bootstrap (.Values.config.kafka).bootstrap) }}
{{- fail "config.cameras_from.topic needs a broker: set config.kafka.bootstrap" }}
{{- end }}
{{- $partitions := default 64 $from.partitions | int }}
{{- if gt $maximum $partitions }}
{{- fail (printf "%d pods are more than config.cameras_from.partitions: %d; the others would have no cameras" $maximum $partitions) }}
{{- end }}
{{- end }}
{{- if regexMatch "^(127\\.|localhost$|::1$)" (default "" (.Values.config.http).host) }}
{{- fail (printf "config.http.host: %s is an address of the pod alone, and its probes would fail; leave 0.0.0.0, or set :: in a cluster with IPv6 only" .Values.config.http.host) }}
{{- end }}
{{- if not .Values.configFrom.secret }}
{{- range .Values.config.cameras }}
{{- if regexMatch "://[^/?#]*:[^/?#]*@" (default "" .url) }}
{{- fail (printf "config.cameras: the address of %s has a password, which everyone who may read ConfigMaps could read; put the whole cameras.yaml into a Secret and name it in configFrom.secret" .id) }}
{{- end }}
{{- end }}
{{- end }}
{{- if not $scaled }}
{{- range .Values.drain.ordinals }}
{{- if lt (int .) (int $.Values.replicas) }}
{{- fail (printf "drain.ordinals: pod %v runs and sends its events itself; name ordinals from %v on" . $.Values.replicas) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.networkPolicy }}
{{- if and .enabled .egress.enabled }}
{{- if not .egress.cameras.to }}
{{- fail "networkPolicy.egress.enabled: name the networks of the cameras in networkPolicy.egress.cameras.to, or no camera can be reached" }}
{{- end }}
{{- if not $.Values.configFrom.secret }}
{{- range concat (default list ($.Values.config.kafka).bootstrap) (default list ($.Values.config.cameras_from).bootstrap) }}
{{- if not $.Values.networkPolicy.egress.brokers.to }}
{{- fail (printf "networkPolicy.egress.enabled: name the brokers in networkPolicy.egress.brokers.to, or %s cannot be reached" .) }}
{{- end }}
{{- if not (has (regexFind "[0-9]+$" .) (toStrings $.Values.networkPolicy.egress.brokers.ports)) }}
{{- fail (printf "networkPolicy.egress.brokers.ports: the port of %s is missing, so it could not be reached" .) }}
{{- end }}
{{- end }}
{{- if and (or $.Values.config.webhooks $.Values.config.mqtt) (not .egress.sinks.to) }}
{{- fail "networkPolicy.egress.enabled: name the receivers of config.webhooks and config.mqtt in networkPolicy.egress.sinks.to, or they cannot be reached" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
