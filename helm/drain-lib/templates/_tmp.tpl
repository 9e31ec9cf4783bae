{{/* Items of a pod's `volumes`: /tmp, where the run-time directory is. */}}
{{- define "drain-lib.volumes" -}}
{{- with (include "drain-lib.values" . | fromYaml).tmp -}}
{{- if .enabled -}}
{{- $given := dict -}}
{{- range $name, $value := pick . "medium" "sizeLimit" -}}
  {{- if $value -}}{{- $_ := set $given $name $value -}}{{- end -}}
{{- end -}}
- name: tmp
  emptyDir: {{ toJson $given }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Items of a container's `volumeMounts`. */}}
{{- define "drain-lib.volumeMounts" -}}
{{- if (include "drain-lib.values" . | fromYaml).tmp.enabled -}}
- name: tmp
  mountPath: /tmp
{{- end -}}
{{- end }}
