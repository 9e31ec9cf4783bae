{{/* `securityContext:` of a pod. */}}
{{- define "drain-lib.podSecurityContext" -}}
securityContext:
  {{- (include "drain-lib.values" . | fromYaml).podSecurityContext | toYaml | nindent 2 }}
{{- end }}

{{/* `securityContext:` of a container. */}}
{{- define "drain-lib.securityContext" -}}
securityContext:
  {{- (include "drain-lib.values" . | fromYaml).securityContext | toYaml | nindent 2 }}
{{- end }}

{{/*
Items of a Role's `rules`, in the pod's namespace: to see when every service has taken this pod out, and how long the pod was given when it
was deleted. Nothing more is asked for; nothing at all where nobody looks.
*/}}
{{- define "drain-lib.rules" -}}
{{- $drain := include "drain-lib.values" . | fromYaml -}}
{{- $mode := $drain.preStop.mode -}}
{{- $watches := and (has $mode (list "drain" "none")) (ne (toString $drain.watchEndpoint) "false") -}}
{{- $tells := and (has $mode (list "drain" "none")) (ne (toString $drain.kubernetesEvents) "false") -}}
{{- if or $watches (eq $mode "standalone") $drain.rebalance.enabled -}}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
{{- end }}
{{- if $watches }}
- apiGroups: [""]
  resources: [pods]
  verbs: [get]
{{- end }}
{{- if $tells }}
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
{{- end }}
