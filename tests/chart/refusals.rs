//! Values that are refused, and in which words.

use std::thread;

use super::chart;
use super::helm::{self, with};

/// Values, and what Helm says of them.
const REFUSED: &[(&str, &[&str])] = &[
    // What ingress-nginx's chart has and this one has not.
    (
        "controller: {config: {proxy-read-timeout: '3600'}}",
        &["'/controller'", "'config' not allowed"],
    ),
    (
        "controller: {allowSnippetAnnotations: true}",
        &["'allowSnippetAnnotations' not allowed"],
    ),
    (
        "controller: {admissionWebhooks: {enabled: true}}",
        &["'admissionWebhooks' not allowed"],
    ),
    (
        "controller: {watchIngressWithoutClass: true}",
        &["'watchIngressWithoutClass' not allowed"],
    ),
    (
        "controller: {ingressClassByName: true}",
        &["'ingressClassByName' not allowed"],
    ),
    (
        "controller: {ingressClass: nginx}",
        &["'ingressClass' not allowed"],
    ),
    (
        "controller: {hostPort: {enabled: true}}",
        &["'hostPort' not allowed"],
    ),
    (
        "controller: {publishService: {enabled: true}}",
        &["'publishService' not allowed"],
    ),
    ("controller: {lifecycle: {}}", &["'lifecycle' not allowed"]),
    (
        "controller: {keda: {enabled: true}}",
        &["'keda' not allowed"],
    ),
    (
        "controller: {ingressClassResource: {controllerValue: k8s.io/ingress-nginx}}",
        &[
            "'/controller/ingressClassResource'",
            "'controllerValue' not allowed",
        ],
    ),
    (
        "controller: {service: {internal: {enabled: true}}}",
        &["'/controller/service'", "'internal' not allowed"],
    ),
    (
        "controller: {service: {loadBalancerIP: 192.0.2.1}}",
        &["'loadBalancerIP' not allowed"],
    ),
    (
        "controller: {service: {targetPorts: {http: http}}}",
        &["'targetPorts' not allowed"],
    ),
    (
        "controller: {image: {chroot: true}}",
        &["'chroot' not allowed"],
    ),
    ("tcp: {9000: default/example:9000}", &["'tcp' not allowed"]),
    ("dhParam: abc", &["'dhParam' not allowed"]),
    // Typing errors, at every depth.
    ("controler: {}", &["'controler' not allowed"]),
    ("controller: {replicas: 3}", &["'replicas' not allowed"]),
    (
        "controller: {tolerations: [{keey: a}]}",
        &["'/controller/tolerations/0'", "'keey' not allowed"],
    ),
    (
        "controller: {affinity: {podAffinity: {required: []}}}",
        &["'required' not allowed"],
    ),
    (
        "controller: {resources: {request: {cpu: 1}}}",
        &["'request' not allowed"],
    ),
    (
        "controller: {extraEnvs: [{name: A, valueFrom: {secretRef: {}}}]}",
        &["'secretRef' not allowed"],
    ),
    (
        "controller: {loadBalancer: {http: {websocket: {idletimeout: 1m}}}}",
        &[
            "'/controller/loadBalancer/http/websocket'",
            "'idletimeout' not allowed",
        ],
    ),
    (
        "controller: {loadBalancer: {http: {port: 8080}}}",
        &["'port' not allowed"],
    ),
    (
        "controller: {loadBalancer: {spec: {exposure: Host}}}",
        &["'exposure' not allowed"],
    ),
    // Values of a wrong type, or out of range.
    (
        "controller: {replicaCount: two}",
        &["'/controller/replicaCount'", "want integer"],
    ),
    (
        "controller: {replicaCount: -1}",
        &["'/controller/replicaCount'", "minimum"],
    ),
    (
        "controller: {kind: StatefulSet}",
        &["'/controller/kind'", "'Deployment', 'DaemonSet'"],
    ),
    ("controller: {hostNetwork: 'yes'}", &["want boolean"]),
    (
        "controller: {shutdown: {delay: 5}}",
        &["'/controller/shutdown/delay'", "want string"],
    ),
    (
        "controller: {shutdown: {delay: 5 seconds}}",
        &["'/controller/shutdown/delay'", "pattern"],
    ),
    (
        "controller: {shutdown: {drainWindow: 1d}}",
        &["'/controller/shutdown/drainWindow'", "pattern"],
    ),
    (
        "controller: {loadBalancer: {https: {timeouts: {idle: forever}}}}",
        &["'/controller/loadBalancer/https/timeouts/idle'", "pattern"],
    ),
    (
        "controller: {loadBalancer: {listeners: [{name: a, port: 0, protocol: HTTP}]}}",
        &["'/controller/loadBalancer/listeners/0/port'", "minimum"],
    ),
    (
        "controller: {loadBalancer: {listeners: [{name: a, port: 1}]}}",
        &["'protocol'"],
    ),
    (
        "controller: {service: {ports: {http: 70000}}}",
        &["'/controller/service/ports/http'", "maximum"],
    ),
    (
        "controller: {service: {type: ExternalName}}",
        &["'/controller/service/type'"],
    ),
    (
        "controller: {service: {ipFamilies: [IPv4, IPv4]}}",
        &["'/controller/service/ipFamilies'"],
    ),
    (
        "controller: {service: {loadBalancerSourceRanges: [192.0.2.1]}}",
        &["'/controller/service/loadBalancerSourceRanges/0'"],
    ),
    (
        "controller: {service: {nodePorts: {http: '30080'}}}",
        &["'/controller/service/nodePorts/http'", "want integer"],
    ),
    ("controller: {logFormat: xml}", &["'/controller/logFormat'"]),
    ("controller: {workers: 0}", &["'/controller/workers'"]),
    (
        "controller: {podAnnotations: {a: true}}",
        &["'/controller/podAnnotations/a'", "want string"],
    ),
    (
        "controller: {image: {digest: latest}}",
        &["'/controller/image/digest'"],
    ),
    (
        "controller: {maxUnavailable: some}",
        &["'/controller/maxUnavailable'"],
    ),
    (
        "controller: {defaultBackendService: lost}",
        &["'/controller/defaultBackendService'"],
    ),
    (
        "controller: {scope: {enabled: true, namespace: 'a, b'}}",
        &["'/controller/scope/namespace'"],
    ),
    (
        "controller: {metrics: {serviceMonitor: {scrapeInterval: often}}}",
        &["'/controller/metrics/serviceMonitor/scrapeInterval'"],
    ),
    (
        "fullnameOverride: Edge",
        &["'/fullnameOverride'", "pattern"],
    ),
    // Values that do not go together.
    (
        "controller: {kind: DaemonSet, autoscaling: {enabled: true}}",
        &["controller.autoscaling.enabled: a DaemonSet"],
    ),
    (
        "controller: {hostNetwork: true, networkPolicy: {enabled: true}}",
        &["controller.networkPolicy.enabled: a NetworkPolicy does not apply"],
    ),
    (
        "controller: {hostNetwork: true, service: {annotations: {a: b}}}",
        &["controller.service.annotations: with controller.hostNetwork there is no Service"],
    ),
    (
        "controller: {hostNetwork: true, service: {type: NodePort}}",
        &["controller.service.type: with controller.hostNetwork there is no Service"],
    ),
    (
        "controller: {publishAddresses: [192.0.2.1]}",
        &["controller.publishAddresses: without controller.hostNetwork"],
    ),
    (
        "controller: {terminationGracePeriodSeconds: 44}",
        &["controller.terminationGracePeriodSeconds: 44 is less than the 45"],
    ),
    (
        "controller: {service: {enableHttp: false, enableHttps: false}}",
        &["a LoadBalancer needs a listener"],
    ),
    (
        "controller: {metrics: {serviceMonitor: {enabled: true}}}",
        &["controller.metrics.serviceMonitor.enabled: it reads the Service"],
    ),
    (
        "controller: {metrics: {prometheusRule: {enabled: true}}}",
        &["controller.metrics.prometheusRule.rules: none given"],
    ),
    (
        "defaultBackend: {enabled: true}",
        &["defaultBackend.image.image: name the image"],
    ),
    (
        "{controller: {defaultBackendService: 'a/b:80'}, defaultBackend: {enabled: true, image: {image: lost}}}",
        &["set one of them"],
    ),
    (
        "controller: {scope: {enabled: true, namespace: shop}, loadBalancer: {namespace: chat}}",
        &["controller.loadBalancer.namespace: controller.scope.namespace does not watch it"],
    ),
    (
        "{controller: {scope: {enabled: true, namespace: shop}}, defaultBackend: {enabled: true, image: {image: lost}}}",
        &["defaultBackend.enabled: it runs in the namespace of the release"],
    ),
];

#[test]
fn wrong_values_are_refused_in_words() {
    let half = REFUSED.len() / 2;
    thread::scope(|scope| {
        for rows in [&REFUSED[..half], &REFUSED[half..]] {
            scope.spawn(move || {
                for (values, words) in rows {
                    let refusal = with(values).refusal();
                    for word in *words {
                        assert!(refusal.contains(word), "{values}: no {word} in: {refusal}");
                    }
                }
            });
        }
    });
}

#[test]
fn the_chart_has_nothing_for_lint_to_warn_of() {
    let report = helm::lint(&chart()).unwrap();
    assert!(report.contains("0 chart(s) failed"), "{report}");
    assert!(!report.contains("[WARNING]"), "{report}");
}
