//! What the status of a LoadBalancer says, which target ports it gets, and what its Service is.

#![allow(clippy::unwrap_used, clippy::panic)]

#[expect(dead_code, reason = "only manifests are read here; no table is shown")]
#[path = "translate/support.rs"]
mod support;

use std::collections::BTreeMap;

use holdfast::api::{Address, Condition, ConditionStatus, LoadBalancerStatus};
use holdfast::routing::ListenerId;
use holdfast::translate::finding::{Finding, Reason, Severity};
use holdfast::translate::owned_service::{Pods, is_as_declared, owned_service, owned_service_name};
use holdfast::translate::ports::RANGE;
use holdfast::translate::status::{Facts, load_balancer_status};
use holdfast::translate::{Settings, TargetPorts, Translator};
use holdfast::world::{Delta, Kind, LoadBalancer, Object, ObjectKey, ObjectName, World};
use k8s_openapi::api::core::v1::Service;

const EDGE: &str = "
apiVersion: holdfast.dev/v1alpha1
kind: LoadBalancer
metadata: {name: edge, namespace: a, creationTimestamp: 2024-01-01T00:00:00Z, generation: 7}
spec:
  listeners:
  - {name: http, port: 80, protocol: HTTP, websocket: {idleTimeout: 0s}}
  - name: https
    port: 443
    protocol: HTTPS
    http1Only: [legacy.example, '*.old.example']
    tls: {certificateRefs: [{name: cert}]}
  rules:
  - backends: [{service: {name: chat, port: 80}}]
";
const CHAT: &str = "
apiVersion: v1
kind: Service
metadata: {name: chat, namespace: a}
spec: {ports: [{port: 80}]}
";
const CERTIFICATE: &str = "
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: a}
type: kubernetes.io/tls
stringData: {tls.crt: certificate for a.example, tls.key: its key}
";

/// A world that is translated as in a cluster.
struct Cluster {
    world: World,
    translator: Translator,
    findings: Vec<Finding>,
    addresses: Vec<Address>,
    now: &'static str,
}

impl Cluster {
    fn new(manifests: &[&str]) -> Self {
        let settings = Settings {
            target_ports: TargetPorts::Recorded,
            ..Settings::default()
        };
        let mut cluster = Self {
            world: World::default(),
            translator: Translator::new(settings),
            findings: Vec::new(),
            addresses: Vec::new(),
            now: "2024-05-01T00:00:00Z",
        };
        for manifest in manifests {
            cluster.apply(manifest);
        }
        cluster
    }

    fn apply(&mut self, manifest: &str) {
        for object in support::read(manifest) {
            self.tell(object);
        }
    }

    fn tell(&mut self, object: Object) {
        let key = object.key();
        self.world.apply(Delta::Apply(object));
        self.translator.translate(&self.world, &[key]);
    }

    fn load_balancer(&self, name: &str) -> LoadBalancer {
        let (namespace, name) = name.split_once('/').unwrap();
        let name = ObjectName::new(namespace, name);
        LoadBalancer::clone(&self.world.load_balancers()[&name])
    }

    fn status(&self, name: &str) -> LoadBalancerStatus {
        let facts = Facts {
            now: self.now,
            addresses: &self.addresses,
            findings: &self.findings,
            open_tunnels: &BTreeMap::from([(id(name, "http"), 3)]),
        };
        load_balancer_status(&self.load_balancer(name), &self.translator, &facts)
    }

    /// What the leader does: the status is written, and comes back.
    fn record(&mut self, name: &str) -> LoadBalancerStatus {
        let mut load_balancer = self.load_balancer(name);
        load_balancer.status = self.status(name);
        let status = load_balancer.status.clone();
        self.tell(Object::LoadBalancer(load_balancer.into()));
        status
    }

    fn service(&self, name: &str) -> Option<Service> {
        let load_balancer = self.load_balancer(name);
        let listeners = self.translator.listeners_of(&load_balancer.meta.name);
        owned_service(&load_balancer, listeners, &pods())
    }
}

fn pods() -> Pods {
    Pods {
        namespace: "system".to_owned(),
        selector: BTreeMap::from([("app".to_owned(), "holdfast".to_owned())]),
    }
}

fn id(load_balancer: &str, listener: &str) -> ListenerId {
    let (namespace, name) = load_balancer.split_once('/').unwrap();
    ListenerId {
        namespace: namespace.into(),
        load_balancer: name.into(),
        name: listener.into(),
    }
}

fn ports(status: &LoadBalancerStatus) -> Vec<Option<u16>> {
    let listeners = status.listeners.iter();
    listeners.map(|listener| listener.target_port).collect()
}

/// `Type=Status/Reason` of each.
fn conditions(conditions: &[Condition]) -> Vec<String> {
    conditions
        .iter()
        .map(|condition| {
            format!(
                "{}={:?}/{}",
                condition.condition_type, condition.status, condition.reason
            )
        })
        .collect()
}

#[test]
fn a_listener_opens_when_its_target_port_is_recorded() {
    let mut cluster = Cluster::new(&[EDGE, CHAT, CERTIFICATE]);
    assert!(cluster.translator.listener(&id("a/edge", "http")).is_none());
    assert!(cluster.service("a/edge").is_none());
    let first = cluster.record("a/edge");
    assert!(
        first.listeners[0]
            .target_port
            .is_some_and(|port| RANGE.contains(&port))
    );
    assert_ne!(
        first.listeners[0].target_port,
        first.listeners[1].target_port
    );
    assert_eq!(
        conditions(&first.listeners[0].conditions),
        [
            "Accepted=True/Accepted",
            "Conflicted=False/NoConflicts",
            "ResolvedRefs=True/ResolvedRefs",
            "Programmed=False/Pending",
        ]
    );
    let open = cluster.translator.listener(&id("a/edge", "http")).unwrap();
    assert_eq!(
        (open.port, Some(open.target_port)),
        (80, first.listeners[0].target_port)
    );
    let second = cluster.status("a/edge");
    assert_eq!(ports(&first), ports(&second));
}

#[test]
fn a_recorded_port_stays_whoever_comes() {
    let mut cluster = Cluster::new(&[EDGE, CHAT, CERTIFICATE]);
    let edge = ports(&cluster.record("a/edge"));
    // Older, so that it would win any contest, and it wants just these ports.
    let older = format!(
        "
apiVersion: holdfast.dev/v1alpha1
kind: LoadBalancer
metadata: {{name: host, namespace: z, creationTimestamp: 2020-01-01T00:00:00Z}}
spec:
  exposure: Host
  listeners: [{{name: http, port: {}, protocol: HTTP}}]
",
        edge[0].unwrap()
    );
    cluster.apply(&older);
    assert_eq!(ports(&cluster.status("a/edge")), edge);
    let host = cluster.status("z/host");
    assert_eq!(
        conditions(&host.listeners[0].conditions),
        [
            "Accepted=True/Accepted",
            "Conflicted=True/PortConflict",
            "ResolvedRefs=True/ResolvedRefs",
            "Programmed=False/PortConflict",
        ]
    );
}

#[test]
fn two_load_balancers_both_have_port_443() {
    let other = EDGE.replace("name: edge, namespace: a", "name: edge, namespace: b");
    let mut cluster = Cluster::new(&[EDGE, &other, CHAT, CERTIFICATE]);
    cluster.record("a/edge");
    cluster.record("b/edge");
    let one = cluster.translator.listener(&id("a/edge", "https")).unwrap();
    let two = cluster.translator.listener(&id("b/edge", "https")).unwrap();
    assert_eq!((one.port, two.port), (443, 443));
    assert_ne!(one.target_port, two.target_port);
    let names = ["a", "b"]
        .map(|namespace| owned_service_name(&ObjectName::new(namespace, "edge"), "system").name);
    assert_ne!(names[0], names[1]);
}

#[test]
fn of_a_port_recorded_twice_the_older_keeps_it_and_the_other_gets_a_new_one() {
    let newer = EDGE
        .replace("name: edge, namespace: a", "name: copy, namespace: a")
        .replace("2024-01-01", "2024-02-01");
    let mut cluster = Cluster::new(&[EDGE, &newer, CHAT, CERTIFICATE]);
    let recorded = cluster.record("a/edge");
    let mut copy = cluster.load_balancer("a/copy");
    copy.status = recorded.clone();
    cluster.tell(Object::LoadBalancer(copy.into()));
    let open = cluster.translator.listener(&id("a/edge", "http")).unwrap();
    assert_eq!(Some(open.target_port), ports(&recorded)[0]);
    assert!(cluster.translator.listener(&id("a/copy", "http")).is_none());
    let mended = ports(&cluster.status("a/copy"));
    assert!(
        mended[0].is_some() && mended[0] != ports(&recorded)[0],
        "{mended:?}"
    );
}

#[test]
fn a_whole_load_balancer_says_so() {
    let mut cluster = Cluster::new(&[EDGE, CHAT, CERTIFICATE]);
    cluster.record("a/edge");
    let without = cluster.status("a/edge");
    assert_eq!(
        conditions(&without.conditions),
        [
            "Accepted=True/Accepted",
            "ResolvedRefs=True/ResolvedRefs",
            "Programmed=False/AddressNotAssigned",
        ]
    );
    cluster.addresses = vec![Address::new("192.0.2.7")];
    let status = cluster.status("a/edge");
    assert_eq!(status.addresses, cluster.addresses);
    assert_eq!(
        conditions(&status.conditions)[2],
        "Programmed=True/Programmed"
    );
    for condition in &status.conditions {
        assert_eq!(condition.observed_generation, 7);
        assert_eq!(condition.message, "");
    }
    let [http, https] = status.listeners.as_slice() else {
        panic!("{status:?}");
    };
    assert_eq!((http.attached_routes, http.open_tunnels), (1, 3));
    assert_eq!((https.attached_routes, https.open_tunnels), (1, 0));
    assert_eq!(
        conditions(&https.conditions)[4],
        "TLSReady=True/CertificatesServed"
    );
    assert_eq!(http.conditions.len(), 4);
    let effective = serde_json::to_value(http.effective.as_ref().unwrap()).unwrap();
    assert_eq!(
        effective,
        serde_json::json!({
            "port": 80,
            "protocol": "HTTP",
            "http2": false,
            "timeouts": {"idle": "15s", "request": "1m", "connect": "5s"},
            "websocket": {"idleTimeout": "0s"},
            "admission": {"queue": {"length": 8192, "lengthPerPod": 1024, "timeout": "5s"}},
            "connectionDrain": {"timeout": "5m", "closesPerSecond": 100},
        })
    );
    let effective = https.effective.as_ref().unwrap();
    assert!(effective.http2);
    assert_eq!(effective.http1_only, ["legacy.example", "*.old.example"]);
}

#[test]
fn what_is_missing_is_said_in_the_words_of_the_finding() {
    let mut cluster = Cluster::new(&[EDGE]);
    cluster.record("a/edge");
    let status = cluster.status("a/edge");
    let references = &status.conditions[1];
    assert_eq!(references.status, ConditionStatus::False);
    let key = ObjectKey::new(Kind::LoadBalancer, ObjectName::new("a", "edge"));
    let findings: Vec<&Finding> = cluster.translator.findings_of(&key).collect();
    assert_eq!(findings.len(), 2);
    for finding in findings {
        assert!(
            references.message.contains(&finding.message),
            "{references:?}"
        );
        assert!(
            references.message.contains(&finding.field),
            "{references:?}"
        );
    }
    let https = &status.listeners[1];
    assert_eq!(
        conditions(&https.conditions),
        [
            "Accepted=True/Accepted",
            "Conflicted=False/NoConflicts",
            "ResolvedRefs=False/SecretNotFound",
            "Programmed=True/Programmed",
            "TLSReady=False/NoCertificate",
        ]
    );
}

#[test]
fn a_port_that_cannot_be_bound_and_a_listener_that_is_left_out_are_not_programmed() {
    let twice = EDGE.replace("port: 443", "port: 80");
    let mut cluster = Cluster::new(&[&twice, CHAT, CERTIFICATE]);
    cluster.record("a/edge");
    cluster.findings = vec![Finding {
        object: ObjectKey::new(Kind::LoadBalancer, ObjectName::new("a", "edge")),
        severity: Severity::Error,
        reason: Reason::BindFailed,
        field: "spec.listeners[name=http].port".to_owned(),
        message: "port 1 cannot be bound".to_owned(),
    }];
    let status = cluster.status("a/edge");
    assert_eq!(
        conditions(&status.listeners[0].conditions)[3],
        "Programmed=False/BindFailed"
    );
    assert_eq!(
        conditions(&status.listeners[1].conditions)[0],
        "Accepted=False/SpecInvalid"
    );
    assert_eq!(
        conditions(&status.listeners[1].conditions)[3],
        "Programmed=False/Invalid"
    );
    assert_eq!(
        conditions(&status.conditions),
        [
            "Accepted=True/ListenersNotValid",
            "ResolvedRefs=True/ResolvedRefs",
            "Programmed=False/ListenersNotProgrammed",
        ]
    );
}

#[test]
fn a_condition_keeps_the_time_of_its_last_change() {
    let mut cluster = Cluster::new(&[EDGE, CHAT, CERTIFICATE]);
    cluster.record("a/edge");
    cluster.now = "2024-06-01T00:00:00Z";
    let status = cluster.record("a/edge");
    let times = |conditions: &[Condition]| -> Vec<String> {
        let times = conditions
            .iter()
            .map(|one| one.last_transition_time.clone());
        times.map(|time| time.chars().take(7).collect()).collect()
    };
    // Programmed alone has changed: the port was recorded.
    assert_eq!(
        times(&status.listeners[0].conditions),
        ["2024-05", "2024-05", "2024-05", "2024-06"]
    );
    assert_eq!(times(&status.conditions), ["2024-05", "2024-05", "2024-05"]);
}

#[test]
fn a_load_balancer_that_is_being_deleted_serves_nothing() {
    let mut cluster = Cluster::new(&[EDGE, CHAT, CERTIFICATE]);
    cluster.record("a/edge");
    let mut leaving = cluster.load_balancer("a/edge");
    leaving.meta.is_deleting = true;
    cluster.tell(Object::LoadBalancer(leaving.into()));
    assert!(cluster.translator.listener(&id("a/edge", "http")).is_none());
}

const TEMPLATE: &str = "
  service:
    type: NodePort
    annotations: {example.com/tier: gold}
    labels: {team: chat}
    externalTrafficPolicy: Local
    loadBalancerSourceRanges: [192.0.2.0/24]
    ipFamilyPolicy: PreferDualStack
    ipFamilies: [IPv6, IPv4]
    nodePorts: {http: 30080}
";

#[test]
fn the_owned_service_is_as_its_template_says() {
    let templated = EDGE.replace("\n  rules:", &format!("{TEMPLATE}  rules:"));
    let mut cluster = Cluster::new(&[&templated, CHAT, CERTIFICATE]);
    let recorded = ports(&cluster.record("a/edge"));
    let service = cluster.service("a/edge").unwrap();
    let mut value = serde_json::to_value(&service).unwrap();
    let hash = value["metadata"]["annotations"]["holdfast.dev/declared"].take();
    assert_eq!(hash.as_str().map(str::len), Some(16));
    let name = owned_service_name(&ObjectName::new("a", "edge"), "system");
    assert!(name.name.starts_with("lb-edge-"), "{name}");
    assert_eq!(
        value,
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": &*name.name,
                "namespace": "system",
                "annotations": {"example.com/tier": "gold", "holdfast.dev/declared": null},
                "labels": {
                    "app.kubernetes.io/managed-by": "holdfast",
                    "holdfast.dev/load-balancer-name": "edge",
                    "holdfast.dev/load-balancer-namespace": "a",
                    "team": "chat",
                },
            },
            "spec": {
                "type": "NodePort",
                "selector": {"app": "holdfast"},
                "externalTrafficPolicy": "Local",
                "loadBalancerSourceRanges": ["192.0.2.0/24"],
                "ipFamilyPolicy": "PreferDualStack",
                "ipFamilies": ["IPv6", "IPv4"],
                "ports": [
                    {
                        "name": "http", "port": 80, "protocol": "TCP",
                        "targetPort": recorded[0], "nodePort": 30080,
                    },
                    {"name": "https", "port": 443, "protocol": "TCP", "targetPort": recorded[1]},
                ],
            },
        })
    );
}

#[test]
fn drift_is_seen_and_what_others_add_is_not_drift() {
    let mut cluster = Cluster::new(&[EDGE, CHAT, CERTIFICATE]);
    cluster.record("a/edge");
    let declared = cluster.service("a/edge").unwrap();
    let held = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::to_value(&declared).unwrap();
        // As the API server completes it.
        value["spec"]["clusterIP"] = "10.0.0.1".into();
        value["spec"]["externalTrafficPolicy"] = "Cluster".into();
        value["spec"]["ports"][0]["nodePort"] = 31_000.into();
        change(&mut value);
        let service: Service = serde_json::from_value(value).unwrap();
        let Object::Service(service) = Object::from(service) else {
            panic!("a Service is another kind");
        };
        service
            .owned
            .as_ref()
            .is_some_and(|owned| is_as_declared(&declared, owned))
    };
    assert!(held(&|_| {}));
    assert!(held(&|service| {
        service["metadata"]["labels"]["other"] = "label".into();
        service["metadata"]["annotations"]["cloud"] = "id".into();
        service["spec"]["sessionAffinity"] = "None".into();
    }));
    let drifts: [&dyn Fn(&mut serde_json::Value); 7] = [
        &|service| service["spec"]["type"] = "ClusterIP".into(),
        &|service| service["spec"]["selector"] = serde_json::json!({}),
        &|service| service["spec"]["selector"]["more"] = "labels".into(),
        &|service| service["spec"]["ports"][0]["targetPort"] = 1.into(),
        &|service| service["spec"]["ports"] = serde_json::json!([]),
        &|service| service["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "me".into(),
        &|service| service["metadata"]["annotations"]["holdfast.dev/declared"] = "".into(),
    ];
    for (number, drift) in drifts.iter().enumerate() {
        assert!(!held(*drift), "drift {number} is not seen");
    }
}
