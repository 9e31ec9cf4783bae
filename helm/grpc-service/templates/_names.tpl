{{- define "grpc-service.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 53 | trimSuffix "-" }}
{{- end }}

{{/* Room is left for "-headless" in the 63 characters of a service's name. */}}
{{- define "grpc-service.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "grpc-service.account" -}}
{{- .Values.serviceAccount.name | default (ternary (include "grpc-service.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "grpc-service.selector" -}}
app.kubernetes.io/name: {{ include "grpc-service.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "grpc-service.labels" -}}
{{ include "grpc-service.selector" . }}
{{- with .Values.image.tag }}
app.kubernetes.io/version: {{ . | trunc 63 | trimAll "-_." | quote }}
{{- end }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* metadata of every object. Takes: root; name, if it is not the full name; annotations; labels. */}}
{{- define "grpc-service.metadata" -}}
name: {{ .name | default (include "grpc-service.fullname" .root) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "grpc-service.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "grpc-service.image" -}}
{{- $image := .Values.image -}}
{{- if not $image.repository -}}
{{- fail "image.repository is empty: which image is to be deployed? Set image.repository, and image.tag or image.digest." -}}
{{- end -}}
{{- if not (or $image.tag $image.digest) -}}
{{- fail (printf "image.tag and image.digest are empty: which version of %s is to be deployed? Set one of them." $image.repository) -}}
{{- end -}}
{{- $image.repository }}{{ ternary (printf "@%s" $image.digest) (printf ":%s" $image.tag) (ne $image.digest "") }}
{{- end }}

{{/* Not empty, if there is to be a monitor, and the cluster knows its kind (or it is forced). */}}
{{- define "grpc-service.monitor" -}}
{{- $monitor := .Values.metrics.monitor -}}
{{- if ne $monitor.kind "none" -}}
  {{- if not .Values.metrics.enabled -}}
    {{- fail (printf "metrics.monitor.kind is %s, but metrics.enabled is false: there is nothing to scrape. Set metrics.enabled to true." $monitor.kind) -}}
  {{- end -}}
  {{- if or $monitor.force (.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $monitor.kind)) -}}yes{{- end -}}
{{- end -}}
{{- end }}

{{/* "yes" where the alerts are made. */}}
{{- define "grpc-service.alerts" -}}
{{- $alerts := .Values.metrics.alerts -}}
{{- if $alerts.enabled -}}
  {{- if not .Values.metrics.enabled -}}
    {{- fail "metrics.alerts.enabled is true, but metrics.enabled is false: there is nothing to be alerted by. Set metrics.enabled to true." -}}
  {{- end -}}
  {{- if or $alerts.force (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PrometheusRule") -}}yes{{- end -}}
{{- end -}}
{{- end }}
