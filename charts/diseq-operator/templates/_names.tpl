{{/* What the names of all objects start with: the release's name where it says enough. 40 characters leave room for what follows. */}}
{{- define "diseq-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "diseq-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "diseq-operator.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name: with serviceAccount.create=false, name one that exists" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The nodes' NetworkPolicies know the operator by app.kubernetes.io/name: it is not for changing. */}}
{{- define "diseq-operator.selectorLabels" -}}
app.kubernetes.io/name: diseq-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object, and annotations if there are any. Argument: the context, or a dict of context, labels and annotations. */}}
{{- define "diseq-operator.metadata" -}}
{{- $context := .context | default . -}}
{{- $labels := dict
  "app.kubernetes.io/component" "operator"
  "app.kubernetes.io/managed-by" $context.Release.Service
  "app.kubernetes.io/part-of" "diseq"
  "app.kubernetes.io/version" ($context.Chart.AppVersion | trunc 63)
  "helm.sh/chart" (printf "%s-%s" $context.Chart.Name $context.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- $own := include "diseq-operator.selectorLabels" $context | fromYaml -}}
{{- $labels = merge $own $labels (.labels | default dict) $context.Values.commonLabels -}}
labels:
  {{- toYaml $labels | nindent 2 }}
{{- with merge dict (.annotations | default dict) $context.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The tolerations of the values, and short ones for a lost worker. Kubernetes takes the shortest that matches, so that ours stay away
where the values have one of the same key, or one of every key. */}}
{{- define "diseq-operator.tolerations" -}}
{{- $tolerations := .Values.tolerations | default list -}}
{{- range $key := list "node.kubernetes.io/not-ready" "node.kubernetes.io/unreachable" -}}
{{- $own := true -}}
{{- range $.Values.tolerations -}}
{{- if and (eq (.key | default $key) $key) (eq (.effect | default "NoExecute") "NoExecute") -}}
{{- $own = false -}}
{{- end -}}
{{- end -}}
{{- if $own -}}
{{- $tolerations = append $tolerations (dict "key" $key "operator" "Exists" "effect" "NoExecute" "tolerationSeconds" $.Values.tolerationSeconds) -}}
{{- end -}}
{{- end -}}
{{- toYaml $tolerations -}}
{{- end -}}

{{/* An image from its repository, tag and digest. Argument: a dict of context and image. */}}
{{- define "diseq-operator.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .context.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
