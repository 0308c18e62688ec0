{{- define "jobstate.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) }}
{{- $name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "jobstate.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "jobstate.labels" -}}
{{ include "jobstate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Rejects what the schema cannot express in a readable message. */ -}}
{{- define "jobstate.check" -}}
{{- if eq (empty .Values.redis.url) (empty .Values.redis.existingSecret) }}
{{- fail "set either `redis.url` or `redis.existingSecret`" }}
{{- end }}
{{- if regexMatch "@|password=" .Values.redis.url }}
{{- fail "`redis.url` has a user or a password: put the URL into a Secret under the key REDIS_URL, and name it in `redis.existingSecret`" }}
{{- end }}
{{- if eq (empty .Values.apiKeys.existingSecret) (not .Values.allowAnonymous) }}
{{- fail "set either `apiKeys.existingSecret` or `allowAnonymous: true`, which gives every client full access" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.apiKeys.existingSecret (empty .Values.serviceMonitor.apiKey.existingSecret) }}
{{- fail "`serviceMonitor.apiKey.existingSecret` is missing: /metrics needs a key with the scope `read`" }}
{{- end }}
{{- end }}
