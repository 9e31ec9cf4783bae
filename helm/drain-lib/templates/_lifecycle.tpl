{{/* `terminationGracePeriodSeconds:` of a pod. */}}
{{- define "drain-lib.terminationGracePeriodSeconds" -}}
terminationGracePeriodSeconds: {{ include "drain-lib.seconds" (include "drain-lib.budget" . | fromYaml).period }}
{{- end }}

{{/* `lifecycle:` of the server's container; nothing with preStop.mode none. No shell is needed. */}}
{{- define "drain-lib.lifecycle" -}}
{{- $hook := (include "drain-lib.values" . | fromYaml).preStop -}}
{{- $budget := include "drain-lib.budget" . | fromYaml -}}
{{- if eq $hook.mode "sleep" -}}
lifecycle:
  preStop:
    sleep:
      seconds: {{ include "drain-lib.seconds" $hook.sleepSeconds }}
{{- else if ne $hook.mode "none" -}}
{{- $words := $hook.command -}}
{{- if eq $hook.mode "standalone" -}}
  {{- $words = concat $words (list "--standalone" (printf "--timeout=%s" (include "drain-lib.seconds" $budget.announcing))) -}}
  {{- range $name, $value := pick $hook "settle" "delay" -}}
    {{- if not (kindIs "invalid" $value) -}}
      {{- $words = append $words (printf "--%s=%s" $name (include "drain-lib.seconds" $value)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
lifecycle:
  preStop:
    exec:
      command:
        {{- concat $words $hook.args | toYaml | nindent 8 }}
{{- end -}}
{{- end }}

{{/* `startupProbe:`, `readinessProbe:` and `livenessProbe:` of the server's container; nothing with probes.enabled false. */}}
{{- define "drain-lib.probes" -}}
{{- $drain := include "drain-lib.values" . | fromYaml -}}
{{- if $drain.probes.enabled -}}
{{- $port := $drain.probes.port | default $drain.port -}}
{{- $service := $drain.probes.livenessService -}}
{{- if kindIs "invalid" $service -}}
  {{- $service = ternary "" "liveness" (has $drain.preStop.mode (list "standalone" "sleep")) -}}
{{- end -}}
{{- $whole := dict "grpc" (dict "port" $port) -}}
{{- $alive := dict "grpc" (dict "port" $port "service" $service) -}}
startupProbe:
  {{- merge $alive $drain.probes.startup | toYaml | nindent 2 }}
readinessProbe:
  {{- merge $whole $drain.probes.readiness | toYaml | nindent 2 }}
livenessProbe:
  {{- merge (pick $alive "grpc") $drain.probes.liveness | toYaml | nindent 2 }}
{{- end -}}
{{- end }}
