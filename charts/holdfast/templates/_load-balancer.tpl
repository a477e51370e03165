{{/* The listeners of the chart's LoadBalancer, as {"listeners": […]}. */}}
{{- define "holdfast.listeners" -}}
{{- $listeners := list -}}
{{- with .Values.controller -}}
{{- if .service.enableHttp -}}
{{- $own := dict "name" "http" "port" .service.ports.http "protocol" "HTTP" -}}
{{- $listeners = append $listeners (merge $own .loadBalancer.http) -}}
{{- end -}}
{{- if .service.enableHttps -}}
{{- $own := dict "name" "https" "port" .service.ports.https "protocol" "HTTPS" -}}
{{- $listeners = append $listeners (merge $own .loadBalancer.https) -}}
{{- end -}}
{{- $listeners = concat $listeners .loadBalancer.listeners -}}
{{- end -}}
{{- toYaml (dict "listeners" $listeners) -}}
{{- end }}

{{/* Settings of the owned Service that differ from the API's defaults. */}}
{{- define "holdfast.serviceTemplate" -}}
{{- $template := dict -}}
{{- range $name := list "annotations" "labels" "externalTrafficPolicy" "loadBalancerClass" "loadBalancerSourceRanges" "ipFamilyPolicy" "ipFamilies" "nodePorts" -}}
{{- with get $.Values.controller.service $name -}}
{{- $_ := set $template $name . -}}
{{- end -}}
{{- end -}}
{{- toYaml $template -}}
{{- end }}

{{/* Whether a listener's port is one that only root may bind on a node; empty = no. */}}
{{- define "holdfast.bindsLowPort" -}}
{{- if .Values.controller.hostNetwork -}}
{{- range (include "holdfast.listeners" . | fromYaml).listeners -}}
{{- if lt (int .port) 1024 }}yes{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}
