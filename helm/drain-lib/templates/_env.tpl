{{/*
Items of a container's `env`: who this pod is, the budget, and every setting of drain that is given. The environment wins over code.
*/}}
{{- define "drain-lib.env" -}}
{{- $drain := include "drain-lib.values" . | fromYaml -}}
{{- $budget := include "drain-lib.budget" . | fromYaml -}}
- name: DRAIN_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: DRAIN_POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: DRAIN_POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: DRAIN_ZONE
{{- if $drain.zone }}
  value: {{ $drain.zone | quote }}
{{- else }}
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}
{{- end }}
{{- with $drain.grpcExperiments }}
- name: GRPC_EXPERIMENTS
  value: {{ . | quote }}
{{- end }}
{{- include "drain-lib.settings" (dict "prefix" "DRAIN_" "settings" (dict
      "terminationGracePeriod" $budget.serverPeriod "announceTimeout" $budget.serverAnnounce
      "drainTimeout" $budget.drainTimeout "reserve" $drain.reserve)) }}
{{- include "drain-lib.settings" (dict "prefix" "DRAIN_" "settings" (pick $drain
      "goaway" "announceMin" "rotationInterval" "returnWindow" "announceDelay" "watchEndpoint" "kubernetesEvents" "settle" "quietPeriod" "streamGrace")) }}
{{- include "drain-lib.settings" (dict "prefix" "DRAIN_" "settings" $drain.keepalive) }}
{{- if $drain.rebalance.enabled }}
- name: DRAIN_REBALANCE
  value: default
{{- include "drain-lib.settings" (dict "prefix" "DRAIN_REBALANCE_" "settings" (omit $drain.rebalance "enabled")) }}
{{- end }}
{{- end }}

{{/* maxConnectionAge: 60 -> DRAIN_MAX_CONNECTION_AGE=60. Takes: prefix, settings. What is null is left out. */}}
{{- define "drain-lib.settings" -}}
{{- range $name, $value := .settings }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $.prefix }}{{ snakecase $name | upper }}
  value: {{ ternary (include "drain-lib.seconds" $value) (toString $value) (kindIs "float64" $value) | quote }}
{{- end }}
{{- end }}
{{- end }}
