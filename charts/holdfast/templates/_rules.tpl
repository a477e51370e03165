{{/* What the controller reads and writes in the namespaces that it watches. */}}
{{- define "holdfast.watchedRules" -}}
- apiGroups: [""]
  resources: [services, secrets]
  verbs: [list, watch]
# One at a time, for when a pod ends that is terminating.
- apiGroups: [""]
  resources: [pods]
  verbs: [get]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingresses/status]
  verbs: [patch]
# Patched for the finalizer that guards the owned Service.
- apiGroups: [holdfast.dev]
  resources: [loadbalancers]
  verbs: [list, watch, patch]
- apiGroups: [holdfast.dev]
  resources: [loadbalancers/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What no namespace has. */}}
{{- define "holdfast.clusterRules" -}}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingressclasses]
  verbs: [list, watch]
{{- end }}

{{/* What the controller does in its own namespace: the election, and the owned Services. */}}
{{- define "holdfast.ownRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "holdfast.leaseName" . | quote }}]
  verbs: [get, update, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [create, patch, delete]
{{- end }}

{{/* What it sees there in any case, its Services and its peers, where the namespace is not watched. */}}
{{- define "holdfast.ownWatchRules" -}}
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
{{- end }}
