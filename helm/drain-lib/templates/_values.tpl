{{/*
What is under `drain` in the values of the chart that uses this library, as YAML. Read back from YAML, every number is a float64, whether
it came from a file or from --set.
*/}}
{{- define "drain-lib.values" -}}
{{- if not (kindIs "map" .Values.drain) -}}
{{- fail "drain-lib: there are no values under `drain`. In Chart.yaml, write `alias: drain` beside the dependency on drain-lib." -}}
{{- end -}}
{{- toYaml .Values.drain -}}
{{- end }}

{{/* Seconds as text: 20, 0.5. Neither the hook nor a person reads 1e+06. */}}
{{- define "drain-lib.seconds" -}}
{{- regexReplaceAll "\\.?0+$" (printf "%.3f" (float64 .)) "" -}}
{{- end }}
