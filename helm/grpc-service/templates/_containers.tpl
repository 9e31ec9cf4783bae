{{/* A container's environment: the library's, then the user's. A name that both have would be the budget's end. */}}
{{- define "grpc-service.env" -}}
{{- $ours := list -}}
{{- range include "drain-lib.env" . | fromYamlArray -}}{{- $ours = append $ours .name -}}{{- end -}}
{{- range .Values.env -}}
  {{- if has .name $ours -}}
    {{- fail (printf "env: %s is set by the values under `drain`. Set it there." .name) -}}
  {{- end -}}
{{- end -}}
{{- include "drain-lib.env" . }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Containers of the user's, restricted as the server's is. Takes: root, containers. */}}
{{- define "grpc-service.restricted" -}}
{{- $ours := include "drain-lib.securityContext" .root | fromYaml -}}
{{- range .containers }}
- {{ merge (deepCopy .) $ours | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}
