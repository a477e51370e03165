{{/* Of (dict "hook" NAME "weight" NUMBER). */}}
{{- define "holdfast.hook" -}}
helm.sh/hook: {{ .hook }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* Of (dict "root" $ "component" NAME "account" SERVICEACCOUNT "args" LIST "env" YAML). */}}
{{- define "holdfast.hookJob" -}}
{{- $hooks := .root.Values.hooks -}}
{{- $controller := .root.Values.controller -}}
backoffLimit: {{ $hooks.backoffLimit }}
activeDeadlineSeconds: {{ $hooks.activeDeadlineSeconds }}
template:
  metadata:
    labels:
      {{- include "holdfast.podLabels" (dict "root" .root "component" .component "more" $hooks.podLabels) | nindent 6 }}
    {{- with $hooks.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    serviceAccountName: {{ .account }}
    automountServiceAccountToken: true
    restartPolicy: Never
    {{- with .root.Values.imagePullSecrets }}
    imagePullSecrets:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $controller.priorityClassName }}
    priorityClassName: {{ . }}
    {{- end }}
    securityContext:
      {{- include "holdfast.plainPodSecurityContext" . | nindent 6 }}
    containers:
      - name: holdfast
        image: {{ include "holdfast.image" (dict "root" .root "image" $controller.image "tag" .root.Chart.AppVersion) | quote }}
        imagePullPolicy: {{ $controller.image.pullPolicy }}
        args:
          {{- toYaml .args | nindent 10 }}
        {{- with .env }}
        env:
          {{- . | nindent 10 }}
        {{- end }}
        {{- with $hooks.resources }}
        resources:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        securityContext:
          {{- include "holdfast.plainContainerSecurityContext" . | nindent 10 }}
    {{- with $controller.nodeSelector }}
    nodeSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $controller.tolerations }}
    tolerations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
