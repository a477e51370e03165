//! What the leader writes, and what it does when it cannot.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast::api::{FINALIZER, ListenerStatus, LoadBalancerStatus};
use holdfast::leader::rate::Rate;
use holdfast::leader::{Aspect, Matter, Write};
use holdfast::world::Kind;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api_server::{ApiServer, Fault, Rule};
use crate::controller::{ingress, limited};
use crate::harness::soon;
use crate::leader::{NAMESPACE, Replica, addresses, ingress_status, matter, writes};

fn load_balancer(name: &str) -> Value {
    json!({
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "LoadBalancer",
        "metadata": {"name": name, "namespace": "edge"},
        "spec": {"listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    })
}

fn service(port: i32) -> Service {
    Service {
        metadata: ObjectMeta {
            name: Some("owned".to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([
                (
                    "holdfast.dev/load-balancer-namespace".to_owned(),
                    "edge".to_owned(),
                ),
                (
                    "holdfast.dev/load-balancer-name".to_owned(),
                    "edge".to_owned(),
                ),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                port,
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn status(attached: u32) -> Write {
    Write::LoadBalancerStatus(Box::new(LoadBalancerStatus {
        listeners: vec![ListenerStatus {
            name: "http".to_owned(),
            target_port: Some(20_000),
            conditions: Vec::new(),
            attached_routes: attached,
            open_tunnels: 0,
            effective: None,
        }],
        ..LoadBalancerStatus::default()
    }))
}

/// One of each sort, with what it is about.
fn one_of_each() -> Vec<(Matter, Write, &'static str, &'static str)> {
    let edge = |aspect| matter(Kind::LoadBalancer, "edge", "edge", aspect);
    let owned = |name| matter(Kind::Service, NAMESPACE, name, Aspect::Object);
    vec![
        (
            ingress_status("app"),
            addresses(&["192.0.2.1"]),
            "patch",
            "ingresses/status",
        ),
        (
            edge(Aspect::Status),
            status(1),
            "patch",
            "loadbalancers/status",
        ),
        (
            edge(Aspect::Finalizer),
            Write::Finalizer(true),
            "patch",
            "loadbalancers",
        ),
        (
            owned("owned"),
            Write::Service(Box::new(service(80))),
            "patch",
            "services",
        ),
        (owned("old"), Write::DeleteService(0), "delete", "services"),
    ]
}

fn old_service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "old", "namespace": NAMESPACE},
        "spec": {},
    })
}

fn put_all(server: &ApiServer) {
    server.put(ingress("app", "app.example", "app"));
    server.put(load_balancer("edge"));
    server.put(old_service());
}

fn set_all(replica: &Replica) -> Vec<Matter> {
    let mut matters = Vec::new();
    for (matter, write, _, _) in one_of_each() {
        replica.agenda.set(matter.clone(), write);
        matters.push(matter);
    }
    matters
}

fn is_all_written(server: &ApiServer) -> bool {
    let ingress = server.object("Ingress", "default", "app").unwrap();
    let edge = server.object("LoadBalancer", "edge", "edge").unwrap();
    let owned = server.object("Service", NAMESPACE, "owned");
    ingress["status"]["loadBalancer"]["ingress"] == json!([{"ip": "192.0.2.1"}])
        && edge["status"]["listeners"][0]["attachedRoutes"] == 1
        && edge["metadata"]["finalizers"] == json!([FINALIZER])
        && owned.is_some_and(|owned| owned["spec"]["ports"][0]["port"] == 80)
        && server.object("Service", NAMESPACE, "old").is_none()
}

#[tokio::test]
async fn each_sort_of_write_does_what_it_says() {
    limited(async {
        let server = ApiServer::start().await;
        put_all(&server);
        let replica = Replica::leader(&server).await;
        let matters = set_all(&replica);
        replica.writes_all(&matters).await;
        assert!(is_all_written(&server), "{:?}", server.objects("Service"));
        for (kind, count) in [
            ("ingress_status", 1),
            ("load_balancer_status", 1),
            ("finalizer", 1),
            ("service", 1),
            ("service_deletion", 1),
        ] {
            assert_eq!(replica.count(kind, "written"), count, "{kind}");
        }
        for request in writes(&server, "ingresses/status") {
            assert_eq!(request.parameter("fieldManager"), Some("holdfast"));
            assert_eq!(request.parameter("force"), Some("true"));
            assert_eq!(request.content_type, "application/apply-patch+yaml");
        }
    })
    .await;
}

/// What the API server may answer to any write, and how often it does.
fn transient() -> Vec<Fault> {
    vec![
        Fault::status(409, "the object has been modified"),
        Fault::status(429, "too many requests"),
        Fault::status(500, "etcdserver: request timed out"),
        Fault::status(503, "apiserver is shutting down"),
        Fault::status(401, "Unauthorized"),
        Fault::Body("not JSON".to_owned()),
        Fault::Reset,
        Fault::Hang,
        Fault::Late(Duration::from_millis(400)),
    ]
}

#[tokio::test]
async fn what_fails_for_a_while_is_written_in_the_end() {
    limited(async {
        for fault in transient() {
            let server = ApiServer::start().await;
            put_all(&server);
            let replica = Replica::start_with(&server, "one", |settings| {
                settings.writer.deadline = Duration::from_millis(300);
            });
            replica.becomes_leader().await;
            for (_, _, verb, resource) in one_of_each() {
                server.script(Rule::on(verb, resource, fault.clone()).times(2));
            }
            let matters = set_all(&replica);
            replica.writes_all(&matters).await;
            assert!(is_all_written(&server), "{fault:?}");
            replica.has_no_problem().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_status_conflict_each_time_holds_up_nobody_else() {
    limited(async {
        let server = ApiServer::start().await;
        put_all(&server);
        let replica = Replica::leader(&server).await;
        let conflict = Fault::status(409, "the object has been modified");
        server.script(Rule::on("patch", "loadbalancers/status", conflict));
        set_all(&replica);
        soon("all others are written", async || {
            (replica.agenda.len() <= 1 && replica.count("service", "written") == 1).then_some(())
        })
        .await;
        soon("tried again and again", async || {
            (replica.count("load_balancer_status", "conflict") > 5).then_some(())
        })
        .await;
        server.behave();
        soon("written", async || is_all_written(&server).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn a_pause_that_the_server_asks_for_is_kept() {
    limited(async {
        let server = ApiServer::start().await;
        put_all(&server);
        let replica = Replica::leader(&server).await;
        let fault = Fault::Status {
            code: 429,
            message: "too many requests, please try again later".to_owned(),
            retry_after: Some(1),
        };
        server.script(Rule::on("patch", "ingresses/status", fault).times(1));
        replica
            .agenda
            .set(ingress_status("app"), addresses(&["192.0.2.1"]));
        soon("told to wait", async || {
            (replica.count("ingress_status", "unavailable") == 1).then_some(())
        })
        .await;
        let asked = Instant::now();
        // It was said to all, not to this one request.
        let matters = set_all(&replica);
        replica.writes_all(&matters).await;
        let waited = asked.elapsed();
        assert!(waited > Duration::from_millis(900), "{waited:?}");
        assert!(is_all_written(&server));
    })
    .await;
}

#[tokio::test]
async fn what_is_gone_is_dropped() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::leader(&server).await;
        let matters = set_all(&replica);
        replica.writes_all(&matters).await;
        for kind in ["ingress_status", "load_balancer_status", "service_deletion"] {
            assert_eq!(replica.count(kind, "gone"), 1, "{kind}");
        }
        assert_eq!(replica.problems(), [""; 0]);
    })
    .await;
}

/// A real API server refuses to create a LoadBalancer without a spec; ours is told to.
#[tokio::test]
async fn a_finalizer_on_a_load_balancer_that_is_gone_is_no_problem() {
    limited(async {
        for code in [403, 422] {
            let server = ApiServer::start().await;
            let replica = Replica::leader(&server).await;
            let refused = Fault::status(code, "spec: Required value");
            server.script(Rule::on("patch", "loadbalancers", refused).times(1));
            let gone = matter(Kind::LoadBalancer, "edge", "gone", Aspect::Finalizer);
            replica.agenda.set(gone.clone(), Write::Finalizer(false));
            replica.writes_all(&[gone]).await;
            assert_eq!(replica.count("finalizer", "gone"), 1);
            assert_eq!(server.object("LoadBalancer", "edge", "gone"), None);
            assert_eq!(replica.problems(), [""; 0]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_finalizer_that_somebody_else_declares_too_is_taken_off_all_the_same() {
    limited(async {
        let server = ApiServer::start().await;
        let mut edge = load_balancer("edge");
        edge["metadata"]["finalizers"] = json!(["example.com/theirs", FINALIZER]);
        edge["metadata"]["managedFields"] = json!([{
            "manager": "kubectl-client-side-apply",
            "operation": "Update",
            "fieldsV1": {"/metadata/finalizers": {}},
        }]);
        server.put(edge);
        server.delete("LoadBalancer", "edge", "edge");
        let replica = Replica::leader(&server).await;
        let finalizer = matter(Kind::LoadBalancer, "edge", "edge", Aspect::Finalizer);
        replica
            .agenda
            .set(finalizer.clone(), Write::Finalizer(false));
        replica.writes_all(&[finalizer]).await;
        let edge = server.object("LoadBalancer", "edge", "edge").unwrap();
        assert_eq!(
            edge["metadata"]["finalizers"],
            json!(["example.com/theirs"])
        );
    })
    .await;
}

#[tokio::test]
async fn without_addresses_ours_go_and_others_stay() {
    limited(async {
        let server = ApiServer::start().await;
        for name in ["ours", "theirs"] {
            server.put(ingress(name, "app.example", "app"));
        }
        let mut theirs = server.object("Ingress", "default", "theirs").unwrap();
        theirs["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}});
        theirs["metadata"]["managedFields"] = json!([{
            "manager": "another-controller",
            "operation": "Update",
            "subresource": "status",
            "fieldsV1": {"/status/loadBalancer/ingress": {}},
        }]);
        server.put(theirs);
        let replica = Replica::leader(&server).await;
        let ours = ingress_status("ours");
        replica
            .agenda
            .set(ours.clone(), addresses(&["192.0.2.1", "lb.example"]));
        replica.writes_all(std::slice::from_ref(&ours)).await;
        let entries = |name: &str| {
            let ingress = server.object("Ingress", "default", name).unwrap();
            ingress["status"]["loadBalancer"]["ingress"].clone()
        };
        assert_eq!(
            entries("ours"),
            json!([{"ip": "192.0.2.1"}, {"hostname": "lb.example"}])
        );
        let matters = [ours, ingress_status("theirs")];
        for matter in &matters {
            replica.agenda.set(matter.clone(), addresses(&[]));
        }
        replica.writes_all(&matters).await;
        assert_eq!(entries("ours"), Value::Null);
        assert_eq!(entries("theirs"), json!([{"ip": "198.51.100.7"}]));
    })
    .await;
}

#[tokio::test]
async fn a_service_is_deleted_only_if_it_is_the_one_that_was_meant() {
    limited(async {
        let server = ApiServer::start().await;
        server.put(old_service());
        let replica = Replica::leader(&server).await;
        let old = matter(Kind::Service, NAMESPACE, "old", Aspect::Object);
        replica.agenda.set(old.clone(), Write::DeleteService(12345));
        replica.writes_all(std::slice::from_ref(&old)).await;
        assert!(server.object("Service", NAMESPACE, "old").is_some());
        let stored = server.object("Service", NAMESPACE, "old").unwrap();
        let uid = stored["metadata"]["uid"].as_str().unwrap().replace('-', "");
        let uid = u128::from_str_radix(&uid, 16).unwrap();
        replica.agenda.set(old.clone(), Write::DeleteService(uid));
        replica.writes_all(&[old]).await;
        assert_eq!(server.object("Service", NAMESPACE, "old"), None);
    })
    .await;
}

#[tokio::test]
async fn a_refused_service_is_a_finding_on_its_load_balancer_until_it_changes() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::start_with(&server, "one", |settings| {
            settings.writer.refused.first = Duration::from_mins(5);
            settings.writer.refused.limit = Duration::from_mins(5);
        });
        replica.becomes_leader().await;
        let refusal = Fault::status(422, "spec.ports[0].nodePort: provided port is not valid");
        server.script(Rule::on("patch", "services", refusal).times(1));
        let owned = matter(Kind::Service, NAMESPACE, "owned", Aspect::Object);
        let declared = |port| Write::Service(Box::new(service(port)));
        replica.agenda.set(owned.clone(), declared(80));
        let problem = replica
            .has_problem(&["LoadBalancer edge/edge: spec.service: ", "nodePort"])
            .await;
        assert!(problem.ends_with("[WriteRefused]"), "{problem}");
        // The same again is not sent again.
        replica.agenda.set(owned.clone(), declared(80));
        replica.agenda.set(owned.clone(), declared(81));
        replica.writes_all(std::slice::from_ref(&owned)).await;
        // Applied and refused; the ports, in case it was them; applied.
        assert_eq!(writes(&server, "services").len(), 3);
        replica.has_no_problem().await;
    })
    .await;
}

#[tokio::test]
async fn a_missing_right_is_told_once_however_many_objects_wait() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::leader(&server).await;
        let forbidden = Fault::status(403, "cannot patch resource \"ingresses/status\"");
        server.script(Rule::on("patch", "ingresses/status", forbidden));
        let matters: Vec<Matter> = (0..50)
            .map(|number| ingress_status(&format!("app{number}")))
            .collect();
        for (number, matter) in matters.iter().enumerate() {
            server.put(ingress(&format!("app{number}"), "app.example", "app"));
            replica
                .agenda
                .set(matter.clone(), addresses(&["192.0.2.1"]));
        }
        replica
            .has_problem(&["writing ingresses/status", "cannot patch", "WriteForbidden"])
            .await;
        soon("all have been refused", async || {
            (replica.count("ingress_status", "forbidden") >= 50).then_some(())
        })
        .await;
        assert_eq!(replica.problems().len(), 1);
        server.behave();
        replica.writes_all(&matters).await;
        replica.has_no_problem().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_told_and_not_stormed() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::leader(&server).await;
        let down = Fault::status(503, "etcd is down");
        server.script(Rule::on("patch", "ingresses/status", down));
        for number in 0..500 {
            let name = format!("app{number}");
            server.put(ingress(&name, "app.example", "app"));
            replica
                .agenda
                .set(ingress_status(&name), addresses(&["192.0.2.1"]));
        }
        replica
            .has_problem(&["writing ingresses/status", "etcd is down", "WriteFailed"])
            .await;
        let before = writes(&server, "ingresses/status").len();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // With a pause of 150 ms or more after each failure, each of 8 at a time.
        let asked = writes(&server, "ingresses/status").len() - before;
        assert!(asked < 80, "{asked} requests in a second");
        server.behave();
        soon("all are written", async || {
            (replica.count("ingress_status", "written") == 500).then_some(())
        })
        .await;
        replica.has_no_problem().await;
    })
    .await;
}

#[tokio::test]
async fn writes_keep_to_their_rate() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::start_with(&server, "one", |settings| {
            settings.writer.rate = Rate {
                per_second: 50.0,
                burst: 10,
            };
        });
        replica.becomes_leader().await;
        let began = Instant::now();
        let matters: Vec<Matter> = (0..60)
            .map(|number| ingress_status(&format!("app{number}")))
            .collect();
        for matter in &matters {
            replica
                .agenda
                .set(matter.clone(), addresses(&["192.0.2.1"]));
        }
        replica.writes_all(&matters).await;
        let taken = began.elapsed();
        assert!(taken > Duration::from_millis(900), "{taken:?}");
    })
    .await;
}

#[tokio::test]
async fn who_has_lost_the_lease_writes_no_more() {
    limited(async {
        let server = ApiServer::start().await;
        put_all(&server);
        let replica = Replica::leader(&server).await;
        // One is under way, answered late, when the Lease goes to another.
        let late = Fault::Late(Duration::from_secs(5));
        server.script(Rule::on("patch", "ingresses/status", late).times(1));
        replica
            .agenda
            .set(ingress_status("app"), addresses(&["192.0.2.1"]));
        soon("under way", async || {
            (writes(&server, "ingresses/status").len() == 1).then_some(())
        })
        .await;
        let other = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "holdfast", "namespace": NAMESPACE},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": 1},
        });
        server.put(other);
        replica.becomes(false).await;
        server.forget_requests();
        // It goes back, as it may not have been done.
        soon("cut off", async || {
            (replica.agenda.len() == 1).then_some(())
        })
        .await;
        set_all(&replica);
        soon("another turn of the election", async || {
            (server.count("get", "leases") > 5).then_some(())
        })
        .await;
        for resource in ["ingresses/status", "loadbalancers", "services"] {
            assert_eq!(writes(&server, resource).len(), 0, "{resource}");
        }
        replica.becomes_leader().await;
        soon("written", async || is_all_written(&server).then_some(())).await;
    })
    .await;
}
