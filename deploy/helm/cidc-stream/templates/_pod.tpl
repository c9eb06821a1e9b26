{{/* What all pods of the chart have in common: rights, volumes, mounts. */}}
{{- define "cidc.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ include "cidc.serviceAccountName" . }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "cidc.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Root and the pipeline's group may read files of secrets; the pipeline cannot write them. */}}
{{- define "cidc.volumes" -}}
- name: config
{{- if .Values.configFrom.secret }}
  secret:
    secretName: {{ .Values.configFrom.secret }}
    defaultMode: 0440
    items:
      - key: {{ .Values.configFrom.key }}
        path: cameras.yaml
{{- else }}
  configMap:
    name: {{ include "cidc.fullname" . }}
{{- end }}
- name: cache
  emptyDir:
    sizeLimit: {{ .Values.cache.size }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.tmp.size }}
{{- with .Values.secrets }}
{{- if .cameras.name }}
- name: secrets-cameras
  secret:
    secretName: {{ .cameras.name }}
    defaultMode: 0440
{{- end }}
{{- if .httpToken.name }}
- name: secrets-http
  secret:
    secretName: {{ .httpToken.name }}
    defaultMode: 0440
    items:
      - key: {{ .httpToken.key }}
        path: token
{{- end }}
{{- if .kafkaPassword.name }}
- name: secrets-kafka
  secret:
    secretName: {{ .kafkaPassword.name }}
    defaultMode: 0440
    items:
      - key: {{ .kafkaPassword.key }}
        path: password
{{- end }}
{{- if .kafkaTls.name }}
- name: secrets-kafka-tls
  secret:
    secretName: {{ .kafkaTls.name }}
    defaultMode: 0440
    items:
      {{- range $key, $path := dict .kafkaTls.ca "ca.crt" .kafkaTls.cert "tls.crt" .kafkaTls.key "tls.key" }}
      {{- if $key }}
      - key: {{ $key }}
        path: {{ $path }}
      {{- end }}
      {{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "cidc.mounts" -}}
- name: state
  mountPath: /var/lib/cidc
- name: config
  mountPath: /etc/cidc
  readOnly: true
- name: cache
  mountPath: /var/cache/cidc
- name: tmp
  mountPath: /tmp
{{- range $volume := list "cameras" "http" "kafka" "kafka-tls" }}
{{- $values := dict "cameras" $.Values.secrets.cameras "http" $.Values.secrets.httpToken "kafka" $.Values.secrets.kafkaPassword "kafka-tls" $.Values.secrets.kafkaTls }}
{{- if (get $values $volume).name }}
- name: secrets-{{ $volume }}
  mountPath: /run/secrets/{{ $volume }}
  readOnly: true
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
