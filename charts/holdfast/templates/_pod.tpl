{{/* The pod template of the controller, for the Deployment and the DaemonSet. */}}
{{- define "holdfast.podTemplate" -}}
{{- $controller := .Values.controller -}}
{{- $fullname := include "holdfast.fullname" . -}}
{{- $component := dict "root" . "component" "controller" -}}
{{- $selector := include "holdfast.selectorLabels" $component | fromYaml -}}
metadata:
  labels:
    {{- include "holdfast.podLabels" (dict "root" . "component" "controller" "more" $controller.podLabels) | nindent 4 }}
  {{- with $controller.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "holdfast.serviceAccountName" . }}
  automountServiceAccountToken: true
  terminationGracePeriodSeconds: {{ $controller.terminationGracePeriodSeconds | default (include "holdfast.gracePeriod" .) }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $controller.hostNetwork }}
  hostNetwork: true
  {{- end }}
  dnsPolicy: {{ $controller.dnsPolicy | default (ternary "ClusterFirstWithHostNet" "ClusterFirst" $controller.hostNetwork) }}
  {{- with $controller.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- include "holdfast.podSecurityContext" . | nindent 4 }}
  containers:
    - name: holdfast
      image: {{ include "holdfast.image" (dict "root" . "image" $controller.image "tag" .Chart.AppVersion) | quote }}
      imagePullPolicy: {{ $controller.image.pullPolicy }}
      args:
        - run
        {{- include "holdfast.runFlags" . | trim | nindent 8 }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- include "holdfast.env" . | nindent 8 }}
        {{- with $controller.extraEnvs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: admin
          containerPort: {{ $controller.admin.port }}
          protocol: TCP
        {{- if and $controller.hostNetwork $controller.loadBalancer.create }}
        {{- range (include "holdfast.listeners" . | fromYaml).listeners }}
        - containerPort: {{ .port }}
          hostPort: {{ .port }}
          protocol: TCP
        {{- end }}
        {{- end }}
      startupProbe:
        {{- include "holdfast.probe" (dict "path" "/healthz" "timing" $controller.startupProbe) | nindent 8 }}
      readinessProbe:
        {{- include "holdfast.probe" (dict "path" "/readyz" "timing" $controller.readinessProbe) | nindent 8 }}
      livenessProbe:
        {{- include "holdfast.probe" (dict "path" "/healthz" "timing" $controller.livenessProbe) | nindent 8 }}
      {{- with $controller.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "holdfast.containerSecurityContext" . | nindent 8 }}
  {{- with $controller.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $controller.topologySpreadConstraints }}
  {{- $constraints := list }}
  {{- range . }}
  {{- $own := hasKey . "labelSelector" | ternary dict (dict "labelSelector" (dict "matchLabels" $selector)) }}
  {{- $constraints = append $constraints (merge $own .) }}
  {{- end }}
  topologySpreadConstraints:
    {{- toYaml $constraints | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Flags of `holdfast run`; those of `extraArgs` go before the chart's own. */}}
{{- define "holdfast.runFlags" -}}
{{- $controller := .Values.controller -}}
{{- $selector := list -}}
{{- range $name, $value := include "holdfast.selectorLabels" (dict "root" . "component" "controller") | fromYaml -}}
{{- $selector = append $selector (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- $flags := dict
  "admin" (include "holdfast.admin" .)
  "ingress-class" $controller.ingressClassResource.name
  "pod-selector" (join "," $selector)
  "peers-service" (printf "%s-peers" (include "holdfast.fullname" .))
  "shutdown-delay" $controller.shutdown.delay
  "drain-window" $controller.shutdown.drainWindow
  "drain-grace" $controller.shutdown.drainGrace
  "log" $controller.logLevel
  "log-format" $controller.logFormat
  "access-log" (ternary "on" "off" $controller.accessLog) -}}
{{- with include "holdfast.loadBalancerName" . -}}
{{- $_ := set $flags "load-balancer" (printf "%s/%s" (include "holdfast.loadBalancerNamespace" $) .) -}}
{{- end -}}
{{- with $controller.publishAddresses -}}
{{- $_ := set $flags "publish-address" (join "," .) -}}
{{- end -}}
{{- with $controller.bindAddress -}}
{{- $_ := set $flags "bind-address" . -}}
{{- end -}}
{{- with $controller.workers -}}
{{- $_ := set $flags "workers" (toString .) -}}
{{- end -}}
{{- include "holdfast.flags" (merge (dict) $controller.extraArgs $flags) -}}
{{- end }}

{{/*
What `holdfast run` and `holdfast uninstall` both have to know. In the environment, so that the
second can also be run in a container of the first.
*/}}
{{- define "holdfast.env" -}}
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- with include "holdfast.watchedNamespaces" . }}
- name: HOLDFAST_NAMESPACE
  value: {{ . | quote }}
{{- end }}
- name: HOLDFAST_LEASE
  value: {{ include "holdfast.leaseName" . | quote }}
{{- end }}

{{- define "holdfast.probe" -}}
httpGet:
  path: {{ .path }}
  port: admin
{{ toYaml .timing }}
{{- end }}

{{/*
An ordinary user, except where a port of the node below 1024 is to be bound. A capability that a
container is given does not reach a process of an ordinary user: it would have to be written on the
file, which `allowPrivilegeEscalation: false` makes the kernel ignore, and the sysctl that lifts the
limit is refused with hostNetwork. Root with that one capability and nothing else is what works.
*/}}
{{- define "holdfast.podSecurityContext" -}}
{{- $user := dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 -}}
{{- if include "holdfast.bindsLowPort" . -}}
{{- $user = dict "runAsNonRoot" false "runAsUser" 0 "runAsGroup" 0 -}}
{{- end -}}
{{- $own := merge $user (dict "seccompProfile" (dict "type" "RuntimeDefault")) -}}
{{- toYaml (mergeOverwrite $own .Values.controller.podSecurityContext) -}}
{{- end }}

{{- define "holdfast.containerSecurityContext" -}}
{{- $capabilities := dict "drop" (list "ALL") -}}
{{- if include "holdfast.bindsLowPort" . -}}
{{- $_ := set $capabilities "add" (list "NET_BIND_SERVICE") -}}
{{- end -}}
{{- $own := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" $capabilities -}}
{{- toYaml (mergeOverwrite $own .Values.controller.containerSecurityContext) -}}
{{- end }}

{{/* For pods that bind nothing on a node: the Jobs, and the default backend. */}}
{{- define "holdfast.plainPodSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "holdfast.plainContainerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
