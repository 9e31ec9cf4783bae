{{/*
The one budget: announcing + drainTimeout + reserve fit terminationGracePeriodSeconds. Whoever needs one of its numbers includes this, and
so has them checked first. As YAML:

  announcing       how long announcing may take: announceTimeout, or what the hook sleeps
  drainTimeout     how long calls in flight may take
  period           terminationGracePeriodSeconds, a whole number
  serverAnnounce   what of announcing is left to the server: a hook that announces in its place leaves nothing,
  serverPeriod     and takes its time from the period
*/}}
{{- define "drain-lib.budget" -}}
{{- $drain := include "drain-lib.values" . | fromYaml -}}
{{- $mode := $drain.preStop.mode -}}
{{- $announcing := $drain.announceTimeout -}}
{{- $name := "announceTimeout" -}}
{{- if eq $mode "sleep" -}}
  {{- $announcing = $drain.preStop.sleepSeconds -}}
  {{- $name = "preStop.sleepSeconds" -}}
{{- end -}}
{{- $others := printf "%s %s + reserve %s" $name
      (include "drain-lib.seconds" $announcing) (include "drain-lib.seconds" $drain.reserve) -}}
{{- $given := $drain.terminationGracePeriodSeconds -}}
{{- $finishing := $drain.drainTimeout -}}
{{- if kindIs "invalid" $finishing -}}
  {{- $finishing = 20.0 -}}
  {{- if $given -}}
    {{- $finishing = subf $given $announcing $drain.reserve -}}
    {{- if le $finishing 0.0 -}}
      {{- fail (printf "drain: terminationGracePeriodSeconds %s leaves no time for calls in flight after %s. Raise it above %s, or lower %s."
            (include "drain-lib.seconds" $given) $others (include "drain-lib.seconds" (addf $announcing $drain.reserve)) $name) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $sum := addf $announcing $finishing $drain.reserve -}}
{{- if and $given (gt $sum $given) -}}
  {{- fail (printf "drain: terminationGracePeriodSeconds %s is too short for %s + drainTimeout %s = %s: calls in flight would be killed. Raise it to %s at least, lower one of the others, or leave it null: then it is their sum."
        (include "drain-lib.seconds" $given) $others (include "drain-lib.seconds" $finishing)
        (include "drain-lib.seconds" $sum) (include "drain-lib.seconds" (ceil $sum))) -}}
{{- end -}}
{{- $hook := ternary $announcing 0.0 (has $mode (list "standalone" "sleep")) -}}
{{- $period := $given | default (ceil (maxf $sum (addf $hook 1.0))) -}}
{{- if le (subf $period $hook) 0.0 -}}
  {{- fail (printf "drain: terminationGracePeriodSeconds %s leaves the server no time after its preStop hook, which takes %s. Raise it."
        (include "drain-lib.seconds" $period) (include "drain-lib.seconds" $hook)) -}}
{{- end -}}
{{- $budget := dict "announcing" $announcing "drainTimeout" $finishing "period" $period
      "serverAnnounce" (subf $announcing $hook) "serverPeriod" (subf $period $hook) -}}
{{- include "drain-lib.contradictions" (dict "drain" $drain "budget" $budget) -}}
{{- toYaml $budget -}}
{{- end }}
