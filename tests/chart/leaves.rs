//! Every value is obeyed: set to something else, it changes what is rendered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

use super::helm::{self, Rendering};
use super::objects;
use super::values::{leaves, merge, nested};

const AUTOSCALING: &str = "controller: {autoscaling: {enabled: true}}";
const BACKEND: &str = "defaultBackend: {enabled: true, image: {image: lost}}";
const HOST: &str = "controller: {hostNetwork: true}";
const METRICS: &str = "controller: {metrics: {enabled: true}}";
const MONITOR: &str = "controller: {metrics: {enabled: true, serviceMonitor: {enabled: true}}}";
const POLICY: &str = "controller: {networkPolicy: {enabled: true}}";
const RULES: &str =
    "controller: {metrics: {prometheusRule: {enabled: true, rules: [{record: a, expr: b}]}}}";
const SCOPE: &str = "controller: {scope: {enabled: true}}";

/// Path, a value that is not the default, and what else has to be set for it to matter.
const TABLE: &[(&str, &str, &str)] = &[
    ("nameOverride", "edge", ""),
    ("fullnameOverride", "edge", ""),
    ("commonLabels", "{team: edge}", ""),
    ("global.image.registry", "registry.example", ""),
    ("imagePullSecrets", "[{name: registry}]", ""),
    ("controller.image.registry", "registry.example", ""),
    ("controller.image.image", "proxies/holdfast", ""),
    ("controller.image.tag", "0.1.0-rc.1", ""),
    (
        "controller.image.digest",
        "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "",
    ),
    ("controller.image.pullPolicy", "Always", ""),
    ("controller.kind", "DaemonSet", ""),
    ("controller.replicaCount", "3", ""),
    ("controller.hostNetwork", "true", ""),
    ("controller.minReadySeconds", "7", ""),
    ("controller.updateStrategy", "{type: Recreate}", ""),
    ("controller.shutdown.delay", "25s", ""),
    ("controller.shutdown.drainWindow", "2m", ""),
    ("controller.shutdown.drainGrace", "15s", ""),
    ("controller.terminationGracePeriodSeconds", "300", ""),
    ("controller.annotations", "{example.com/a: b}", ""),
    ("controller.labels", "{a: b}", ""),
    ("controller.podAnnotations", "{example.com/a: b}", ""),
    ("controller.podLabels", "{a: b}", ""),
    (
        "controller.resources",
        "{requests: {cpu: '1'}, limits: {memory: 1Gi}}",
        "",
    ),
    ("controller.nodeSelector", "{pool: edge}", ""),
    (
        "controller.tolerations",
        "[{key: edge, operator: Equal, value: only, effect: NoExecute, tolerationSeconds: 5}]",
        "",
    ),
    (
        "controller.affinity",
        "{podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: zone, labelSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}}}]}}",
        "",
    ),
    (
        "controller.topologySpreadConstraints",
        "[{maxSkew: 2, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {a: b}}}]",
        "",
    ),
    (
        "controller.priorityClassName",
        "system-cluster-critical",
        "",
    ),
    ("controller.dnsPolicy", "Default", ""),
    (
        "controller.podSecurityContext",
        "{runAsNonRoot: false, runAsUser: 7, seccompProfile: {type: Localhost, localhostProfile: edge.json}, supplementalGroups: [8]}",
        "",
    ),
    (
        "controller.containerSecurityContext",
        "{readOnlyRootFilesystem: false, capabilities: {add: [NET_ADMIN]}}",
        "",
    ),
    ("controller.startupProbe", "{initialDelaySeconds: 1}", ""),
    ("controller.readinessProbe", "{successThreshold: 2}", ""),
    ("controller.livenessProbe", "{timeoutSeconds: 7}", ""),
    ("controller.workers", "2", ""),
    ("controller.logLevel", "info,holdfast::proxy=debug", ""),
    ("controller.logFormat", "json", ""),
    ("controller.accessLog", "false", ""),
    ("controller.bindAddress", "'0.0.0.0'", ""),
    ("controller.admin.port", "9191", ""),
    ("controller.admin.bindAddress", "'0.0.0.0'", ""),
    ("controller.electionID", "edge-leader", ""),
    (
        "controller.publishAddresses",
        "[192.0.2.1, edge.example]",
        HOST,
    ),
    (
        "controller.extraArgs",
        "{any-port: '', log-level: trace}",
        "",
    ),
    (
        "controller.extraEnvs",
        "[{name: ZONE, value: a}, {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]",
        "",
    ),
    ("controller.scope.enabled", "true", ""),
    ("controller.scope.namespace", "shop,chat", SCOPE),
    ("controller.ingressClassResource.enabled", "false", ""),
    ("controller.ingressClassResource.name", "edge", ""),
    ("controller.ingressClassResource.default", "true", ""),
    ("controller.ingressClassResource.aliases", "[websocket]", ""),
    (
        "controller.ingressClassResource.annotations",
        "{example.com/a: b}",
        "",
    ),
    ("controller.ingressClassResource.labels", "{a: b}", ""),
    (
        "controller.ingressClassResource.parameters",
        "{apiGroup: holdfast.dev, kind: LoadBalancer, name: mine, namespace: chat, scope: Namespace}",
        "",
    ),
    ("controller.loadBalancer.create", "false", ""),
    ("controller.loadBalancer.name", "mine", ""),
    ("controller.loadBalancer.namespace", "chat", ""),
    (
        "controller.loadBalancer.annotations",
        "{example.com/a: b}",
        "",
    ),
    ("controller.loadBalancer.labels", "{a: b}", ""),
    (
        "controller.loadBalancer.http",
        "{timeouts: {idle: 20s}}",
        "",
    ),
    ("controller.loadBalancer.https", "{http2: false}", ""),
    (
        "controller.loadBalancer.listeners",
        "[{name: extra, port: 8443, protocol: HTTPS}]",
        "",
    ),
    (
        "controller.loadBalancer.spec",
        "{rules: [{hosts: [chat.example.com], backends: [{service: {name: chat, port: 80}}]}]}",
        "",
    ),
    ("controller.service.enableHttp", "false", ""),
    ("controller.service.enableHttps", "false", ""),
    ("controller.service.ports.http", "8080", ""),
    ("controller.service.ports.https", "8443", ""),
    ("controller.service.type", "NodePort", ""),
    (
        "controller.service.annotations",
        "{example.com/cloud: fast}",
        "",
    ),
    ("controller.service.labels", "{a: b}", ""),
    ("controller.service.externalTrafficPolicy", "Local", ""),
    (
        "controller.service.loadBalancerClass",
        "example.com/fast",
        "",
    ),
    (
        "controller.service.loadBalancerSourceRanges",
        "[192.0.2.0/24, '2001:db8::/32']",
        "",
    ),
    ("controller.service.ipFamilyPolicy", "RequireDualStack", ""),
    ("controller.service.ipFamilies", "[IPv6, IPv4]", ""),
    ("controller.service.nodePorts", "{http: 30080}", ""),
    ("controller.defaultBackendService", "shop/lost:8080", ""),
    ("controller.autoscaling.enabled", "true", ""),
    (
        "controller.autoscaling.annotations",
        "{example.com/a: b}",
        AUTOSCALING,
    ),
    ("controller.autoscaling.minReplicas", "3", AUTOSCALING),
    ("controller.autoscaling.maxReplicas", "5", AUTOSCALING),
    (
        "controller.autoscaling.targetCPUUtilizationPercentage",
        "80",
        AUTOSCALING,
    ),
    (
        "controller.autoscaling.targetMemoryUtilizationPercentage",
        "80",
        AUTOSCALING,
    ),
    (
        "controller.autoscaling.behavior",
        "{scaleDown: {stabilizationWindowSeconds: 600, policies: [{type: Pods, value: 1, periodSeconds: 300}]}}",
        AUTOSCALING,
    ),
    (
        "controller.autoscalingTemplate",
        "[{type: Pods, pods: {metric: {name: holdfast_tunnels_open}, target: {type: AverageValue, averageValue: 10k}}}]",
        AUTOSCALING,
    ),
    ("controller.maxUnavailable", "25%", ""),
    ("controller.minAvailable", "1", ""),
    ("controller.unhealthyPodEvictionPolicy", "AlwaysAllow", ""),
    ("controller.metrics.enabled", "true", ""),
    (
        "controller.metrics.service.annotations",
        "{prometheus.io/scrape: 'true'}",
        METRICS,
    ),
    ("controller.metrics.service.labels", "{a: b}", METRICS),
    ("controller.metrics.service.servicePort", "10254", METRICS),
    ("controller.metrics.serviceMonitor.enabled", "true", METRICS),
    (
        "controller.metrics.serviceMonitor.additionalLabels",
        "{release: prometheus}",
        MONITOR,
    ),
    (
        "controller.metrics.serviceMonitor.annotations",
        "{example.com/a: b}",
        MONITOR,
    ),
    (
        "controller.metrics.serviceMonitor.namespace",
        "monitoring",
        MONITOR,
    ),
    (
        "controller.metrics.serviceMonitor.scrapeInterval",
        "1m",
        MONITOR,
    ),
    (
        "controller.metrics.serviceMonitor.scrapeTimeout",
        "5s",
        MONITOR,
    ),
    (
        "controller.metrics.serviceMonitor.targetLabels",
        "[team]",
        MONITOR,
    ),
    (
        "controller.metrics.serviceMonitor.relabelings",
        "[{sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: node}]",
        MONITOR,
    ),
    (
        "controller.metrics.serviceMonitor.metricRelabelings",
        "[{action: drop, regex: go_.*, sourceLabels: [__name__]}]",
        MONITOR,
    ),
    (
        "controller.metrics.prometheusRule.enabled",
        "true",
        "controller: {metrics: {prometheusRule: {rules: [{record: a, expr: b}]}}}",
    ),
    (
        "controller.metrics.prometheusRule.additionalLabels",
        "{release: prometheus}",
        RULES,
    ),
    (
        "controller.metrics.prometheusRule.annotations",
        "{example.com/a: b}",
        RULES,
    ),
    (
        "controller.metrics.prometheusRule.namespace",
        "monitoring",
        RULES,
    ),
    (
        "controller.metrics.prometheusRule.rules",
        "[{alert: Down, expr: up == 0, for: 5m, labels: {severity: page}, annotations: {summary: down}}]",
        RULES,
    ),
    ("controller.networkPolicy.enabled", "true", ""),
    (
        "controller.networkPolicy.adminFrom",
        "[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]",
        POLICY,
    ),
    ("rbac.create", "false", ""),
    ("serviceAccount.create", "false", ""),
    ("serviceAccount.name", "edge", ""),
    ("serviceAccount.annotations", "{example.com/a: b}", ""),
    ("serviceAccount.automountServiceAccountToken", "true", ""),
    ("hooks.crds.enabled", "false", ""),
    ("hooks.uninstall.enabled", "false", ""),
    (
        "hooks.podAnnotations",
        "{sidecar.istio.io/inject: 'false'}",
        "",
    ),
    ("hooks.podLabels", "{a: b}", ""),
    ("hooks.resources", "{limits: {cpu: 100m}}", ""),
    ("hooks.backoffLimit", "0", ""),
    ("hooks.activeDeadlineSeconds", "60", ""),
    (
        "defaultBackend.enabled",
        "true",
        "defaultBackend: {image: {image: lost}}",
    ),
    ("defaultBackend.image.registry", "registry.example", BACKEND),
    ("defaultBackend.image.image", "found", BACKEND),
    ("defaultBackend.image.tag", "v2", BACKEND),
    ("defaultBackend.image.digest", "sha256:00", BACKEND),
    ("defaultBackend.image.pullPolicy", "Never", BACKEND),
    ("defaultBackend.extraArgs", "{port: '8080'}", BACKEND),
    ("defaultBackend.extraEnvs", "[{name: A, value: b}]", BACKEND),
    ("defaultBackend.port", "8181", BACKEND),
    ("defaultBackend.replicaCount", "2", BACKEND),
    ("defaultBackend.resources", "{limits: {cpu: 100m}}", BACKEND),
    (
        "defaultBackend.podAnnotations",
        "{example.com/a: b}",
        BACKEND,
    ),
    ("defaultBackend.podLabels", "{a: b}", BACKEND),
    ("defaultBackend.nodeSelector", "{pool: edge}", BACKEND),
    (
        "defaultBackend.tolerations",
        "[{operator: Exists}]",
        BACKEND,
    ),
    (
        "defaultBackend.affinity",
        "{nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}",
        BACKEND,
    ),
    ("defaultBackend.priorityClassName", "low", BACKEND),
    (
        "defaultBackend.podSecurityContext",
        "{runAsNonRoot: false}",
        BACKEND,
    ),
    (
        "defaultBackend.containerSecurityContext",
        "{readOnlyRootFilesystem: false}",
        BACKEND,
    ),
    (
        "defaultBackend.service.annotations",
        "{example.com/a: b}",
        BACKEND,
    ),
    ("defaultBackend.service.servicePort", "8080", BACKEND),
];

fn parse(yaml: &str) -> Value {
    match yaml {
        "" => serde_json::json!({}),
        yaml => serde_yaml::from_str(yaml).unwrap(),
    }
}

#[test]
fn the_table_has_every_value() {
    let known: BTreeSet<String> = leaves().into_iter().map(|leaf| leaf.path).collect();
    let listed: BTreeSet<String> = TABLE.iter().map(|(path, ..)| (*path).to_owned()).collect();
    assert_eq!(listed.len(), TABLE.len(), "a path is there twice");
    let missing: Vec<_> = known.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&known).collect();
    assert!(missing.is_empty(), "in values.yaml alone: {missing:?}");
    assert!(unknown.is_empty(), "in the table alone: {unknown:?}");
    for leaf in leaves() {
        let (_, value, _) = TABLE.iter().find(|(path, ..)| *path == leaf.path).unwrap();
        assert_ne!(parse(value), leaf.default, "{} is the default", leaf.path);
    }
}

#[test]
fn every_value_changes_what_is_rendered() {
    let contexts: BTreeSet<&str> = TABLE.iter().map(|(_, _, context)| *context).collect();
    let bases: BTreeMap<&str, String> = contexts
        .into_iter()
        .map(|context| (context, Rendering::of(parse(context)).text()))
        .collect();
    let rows = Mutex::new(TABLE.iter());
    let next = || rows.lock().unwrap().next();
    let ineffective = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((path, value, context)) = next() {
                    let mut values = parse(context);
                    merge(&mut values, nested(path, parse(value)));
                    let text = Rendering::of(values).text();
                    if text == bases[context] {
                        ineffective.lock().unwrap().push(*path);
                    }
                    for object in helm::documents(&text) {
                        objects::assert_typed(&object, path);
                    }
                }
            });
        }
    });
    let ineffective = ineffective.into_inner().unwrap();
    assert!(ineffective.is_empty(), "changes nothing: {ineffective:?}");
}
