{{/*
Refuses what drain, or its hook, would refuse when it starts: here it costs a sentence, there a rollout that hangs. Where a value is null,
drain's own default counts.

Takes: drain (the values), budget.
*/}}
{{- define "drain-lib.contradictions" -}}
{{- include "drain-lib.phases" . -}}
{{- include "drain-lib.connections" .drain.keepalive -}}
{{- if eq .drain.preStop.mode "standalone" -}}
  {{- include "drain-lib.standalone" .drain -}}
{{- end -}}
{{- end }}

{{- define "drain-lib.phases" -}}
{{- $defaults := dict "announceMin" 1.0 "rotationInterval" 0.5 "returnWindow" 0.3 "announceDelay" 5.0 "quietPeriod" 0.5 -}}
{{- $seconds := dict -}}
{{- $told := dict -}}
{{- range $name, $default := $defaults -}}
  {{- $given := index $.drain $name -}}
  {{- $value := ternary $default $given (kindIs "invalid" $given) -}}
  {{- $_ := set $seconds $name $value -}}
  {{- $_ := set $told $name (printf "%s %s%s" $name (include "drain-lib.seconds" $value)
        (ternary " (drain's default)" "" (kindIs "invalid" $given))) -}}
{{- end -}}
{{- $announce := .budget.serverAnnounce -}}
{{- $announceTold := printf "announceTimeout %s" (include "drain-lib.seconds" $announce) -}}
{{- $finishing := .budget.drainTimeout -}}
{{- $finishingTold := printf "drainTimeout %s" (include "drain-lib.seconds" $finishing) -}}

{{- if gt $seconds.returnWindow $seconds.rotationInterval -}}
  {{- fail (printf "drain: %s is too long for %s: the next GOAWAY would come before the window has closed. Lower returnWindow, or raise rotationInterval."
        $told.returnWindow $told.rotationInterval) -}}
{{- end -}}
{{- if gt (default 0.0 .drain.streamGrace) $finishing -}}
  {{- fail (printf "drain: streamGrace %s is too long for %s: calls are cancelled by then. Lower streamGrace, or raise drainTimeout."
        (include "drain-lib.seconds" .drain.streamGrace) $finishingTold) -}}
{{- end -}}
{{- if gt $seconds.quietPeriod (divf $finishing 2.0) -}}
  {{- fail (printf "drain: %s is too long for %s: it may take half of it at most. Lower quietPeriod, or raise drainTimeout."
        $told.quietPeriod $finishingTold) -}}
{{- end -}}
{{- if gt $announce 0.0 -}}
  {{- if gt $seconds.announceMin $announce -}}
    {{- fail (printf "drain: %s is too long for %s. Lower announceMin, or raise announceTimeout; 0 skips announcing."
          $told.announceMin $announceTold) -}}
  {{- end -}}
  {{- if gt $seconds.announceDelay (maxf $announce $defaults.announceDelay) -}}
    {{- fail (printf "drain: %s is too long for %s. Lower announceDelay, or raise announceTimeout."
          $told.announceDelay $announceTold) -}}
  {{- end -}}
  {{- $two := addf $seconds.rotationInterval $seconds.returnWindow -}}
  {{- if lt $announce $two -}}
    {{- fail (printf "drain: %s has no room for two rotations (%s, %s). Raise it to %s at least, or set it to 0 to skip announcing."
          $announceTold $told.rotationInterval $told.returnWindow (include "drain-lib.seconds" $two)) -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{- define "drain-lib.connections" -}}
{{- $age := .maxConnectionAge | default 300.0 -}}
{{- if and (kindIs "string" $age) (kindIs "float64" .maxConnectionAgeGrace) -}}
  {{- fail "drain: keepalive.maxConnectionAgeGrace never acts while keepalive.maxConnectionAge is none. Set the age, or leave the grace null." -}}
{{- end -}}
{{- if and (kindIs "float64" $age) (kindIs "float64" .maxConnectionIdle) -}}
  {{- if gt .maxConnectionIdle $age -}}
    {{- fail (printf "drain: keepalive.maxConnectionIdle %s never acts, because keepalive.maxConnectionAge %s ends every connection sooner. Lower the one, or raise the other."
          (include "drain-lib.seconds" .maxConnectionIdle) (include "drain-lib.seconds" $age)) -}}
  {{- end -}}
{{- end -}}
{{- if and (kindIs "float64" .maxPingStrikes) (kindIs "float64" .minRecvPingIntervalWithoutData) -}}
  {{- if and (eq .maxPingStrikes 0.0) (gt .minRecvPingIntervalWithoutData 0.0) -}}
    {{- fail "drain: keepalive.minRecvPingIntervalWithoutData never acts, because keepalive.maxPingStrikes 0 tolerates any number of strikes. Leave one of the two null." -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{- define "drain-lib.standalone" -}}
{{- $limit := .announceTimeout -}}
{{- if eq $limit 0.0 -}}
  {{- fail "drain: announceTimeout 0 leaves no time for preStop.mode standalone, whose hook takes no longer. Raise it, or set preStop.mode to none." -}}
{{- end -}}
{{- range $name, $value := pick .preStop "settle" "delay" -}}
  {{- if gt ($value | default 0.0) $limit -}}
    {{- fail (printf "drain: preStop.%s %s is too long for announceTimeout %s, which the hook does not exceed. Lower it, or raise announceTimeout."
          $name (include "drain-lib.seconds" $value) (include "drain-lib.seconds" $limit)) -}}
  {{- end -}}
{{- end -}}
{{- end }}
