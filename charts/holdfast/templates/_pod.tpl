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
        - --admin={{ include "holdfast.admin" . }}
        - --ingress-class={{ $controller.ingressClassResource.name }}
        {{- with include "holdfast.loadBalancerName" . }}
        - --load-balancer={{ include "holdfast.loadBalancerNamespace" $ }}/{{ . }}
        {{- end }}
        {{- with include "holdfast.watchedNamespaces" . }}
        - --namespace={{ . }}
        {{- end }}
        - --lease={{ include "holdfast.leaseName" . }}
        - --pod-selector={{ range $index, $name := keys $selector | sortAlpha }}{{ if $index }},{{ end }}{{ $name }}={{ get $selector $name }}{{ end }}
        - --peers-service={{ $fullname }}-peers
        {{- with $controller.publishAddresses }}
        - --publish-address={{ join "," . }}
        {{- end }}
        {{- with $controller.bindAddress }}
        - --bind-address={{ . }}
        {{- end }}
        {{- with $controller.workers }}
        - --workers={{ . }}
        {{- end }}
        - --shutdown-delay={{ $controller.shutdown.delay }}
        - --drain-window={{ $controller.shutdown.drainWindow }}
        - --drain-grace={{ $controller.shutdown.drainGrace }}
        - {{ printf "--log=%s" $controller.logLevel | quote }}
        - --log-format={{ $controller.logFormat }}
        - --access-log={{ ternary "on" "off" $controller.accessLog }}
        {{- with $controller.extraArgs }}
        {{- include "holdfast.flags" . | trim | nindent 8 }}
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
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
  {{- $constraints = append $constraints (hasKey . "labelSelector" | ternary . (merge (dict "labelSelector" (dict "matchLabels" $selector)) .)) }}
  {{- end }}
  topologySpreadConstraints:
    {{- toYaml $constraints | nindent 4 }}
  {{- end }}
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
