{{/* Names, labels and images. The longest suffix has ten letters, and Kubernetes wants 63 at most. */}}

{{- define "holdfast.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end }}

{{- define "holdfast.fullname" -}}
{{- $name := include "holdfast.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "holdfast.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "holdfast.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{- define "holdfast.leaseName" -}}
{{- .Values.controller.electionID | default (include "holdfast.fullname" .) -}}
{{- end }}

{{/* The namespaces that are watched, separated by commas; empty = all. */}}
{{- define "holdfast.watchedNamespaces" -}}
{{- with .Values.controller.scope -}}
{{- if .enabled -}}
{{- .namespace | default $.Release.Namespace -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "holdfast.loadBalancerNamespace" -}}
{{- $scope := include "holdfast.watchedNamespaces" . | splitList "," | first -}}
{{- .Values.controller.loadBalancer.namespace | default $scope | default .Release.Namespace -}}
{{- end }}

{{/* The LoadBalancer that Ingresses attach to; empty = none. */}}
{{- define "holdfast.loadBalancerName" -}}
{{- with .Values.controller.loadBalancer -}}
{{- if .create -}}
{{- .name | default (include "holdfast.fullname" $) -}}
{{- else -}}
{{- .name -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Of (dict "root" $ "component" NAME): what selects the pods. */}}
{{- define "holdfast.selectorLabels" -}}
app.kubernetes.io/name: {{ include "holdfast.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Of the same, and "more": labels that the values add; "commonLabels" come from the root. */}}
{{- define "holdfast.labels" -}}
{{- $own := include "holdfast.selectorLabels" . | fromYaml -}}
{{- $own = merge $own (dict
  "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/part-of" "holdfast"
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")) -}}
{{- toYaml (merge $own (.more | default dict) .root.Values.commonLabels) -}}
{{- end }}

{{/* Of the same. No version: pods are not to be replaced because the chart alone has a new one. */}}
{{- define "holdfast.podLabels" -}}
{{- $own := include "holdfast.selectorLabels" . | fromYaml -}}
{{- $own = merge $own (dict "app.kubernetes.io/part-of" "holdfast") -}}
{{- toYaml (merge $own (.more | default dict) .root.Values.commonLabels) -}}
{{- end }}

{{/* Of (dict "root" $ "image" VALUES "tag" DEFAULT). */}}
{{- define "holdfast.image" -}}
{{- $registry := .root.Values.global.image.registry | default .image.registry -}}
{{- with $registry }}{{ . }}/{{ end -}}
{{- .image.image -}}
{{- with .image.tag | default .tag }}:{{ . }}{{ end -}}
{{- with .image.digest }}@{{ . }}{{ end -}}
{{- end }}

{{/* Of a Gateway API duration, such as 1h30m. */}}
{{- define "holdfast.milliseconds" -}}
{{- $unit := dict "h" 3600000 "m" 60000 "s" 1000 "ms" 1 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+(ms|h|m|s)" . -1 -}}
{{- $number := regexFind "^[0-9]+" . | atoi -}}
{{- $total = add $total (mul $number (get $unit (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- $total -}}
{{- end }}

{{/* Seconds that a pod may take to end: everything that it does after SIGTERM, and ten. */}}
{{- define "holdfast.gracePeriod" -}}
{{- $total := 0 -}}
{{- with .Values.controller.shutdown -}}
{{- range list .delay .drainWindow .drainGrace -}}
{{- $total = add $total (include "holdfast.milliseconds" . | atoi) -}}
{{- end -}}
{{- end -}}
{{- add (div (add $total 999) 1000) 10 -}}
{{- end }}

{{/* An address and a port as the process reads them. */}}
{{- define "holdfast.admin" -}}
{{- with .Values.controller.admin -}}
{{- ternary (printf "[%s]" .bindAddress) .bindAddress (contains ":" .bindAddress) -}}:{{ .port }}
{{- end -}}
{{- end }}

{{/* Flags out of a map: an empty value is a flag without one. */}}
{{- define "holdfast.flags" -}}
{{- range $name, $value := . }}
- {{ (eq $value "" | ternary (printf "--%s" $name) (printf "--%s=%s" $name $value)) | quote }}
{{- end }}
{{- end }}
