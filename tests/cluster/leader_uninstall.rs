//! `holdfast uninstall`: everything that was written is taken back.

use std::time::Duration;

use holdfast::leader::{Aspect, UninstallSettings, Write, uninstall};
use holdfast::source::cluster::ApiServer as Server;
use holdfast::world::Kind;
use serde_json::{Value, json};

use crate::api_server::{ApiServer, Fault, Rule};
use crate::controller::{ingress, limited};
use crate::harness::soon;
use crate::leader::{
    NAMESPACE, Replica, addresses, holder, ingress_status, lease, matter, stored_lease,
};

fn settings() -> UninstallSettings {
    UninstallSettings {
        lease: lease("uninstall"),
        namespaces: Vec::new(),
        timeout: Duration::from_secs(15),
    }
}

/// What is left, and what was said on the way.
async fn run(server: &ApiServer, settings: &UninstallSettings) -> (Vec<String>, Vec<String>) {
    let client = Server::at(&server.url()).unwrap().client().unwrap();
    let mut said = Vec::new();
    let left = uninstall(client, settings, &mut |line| said.push(line.to_owned())).await;
    (left, said)
}

fn load_balancer(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "LoadBalancer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    })
}

fn owned_service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": format!("lb-{namespace}-{name}"),
            "namespace": NAMESPACE,
            "labels": {
                "holdfast.dev/load-balancer-namespace": namespace,
                "holdfast.dev/load-balancer-name": name,
            },
        },
        "spec": {},
    })
}

/// A server with what a controller has written to it: a leader, two LoadBalancers in two
/// namespaces, each with its Service, and two Ingresses, one of which is another controller's.
async fn installed() -> (ApiServer, Replica) {
    let server = ApiServer::start().await;
    let replica = Replica::leader(&server).await;
    let mut matters = Vec::new();
    for namespace in ["edge", "other"] {
        server.put(load_balancer(namespace, "lb"));
        server.put(owned_service(namespace, "lb"));
        for (aspect, write) in [
            (Aspect::Finalizer, Write::Finalizer(true)),
            (Aspect::Status, Write::LoadBalancerStatus(Box::default())),
        ] {
            let matter = matter(Kind::LoadBalancer, namespace, "lb", aspect);
            replica.agenda.set(matter.clone(), write);
            matters.push(matter);
        }
    }
    server.put(ingress("ours", "a.example", "app"));
    let mut theirs = ingress("theirs", "b.example", "app");
    theirs["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}});
    server.put(theirs);
    replica
        .agenda
        .set(ingress_status("ours"), addresses(&["192.0.2.1"]));
    matters.push(ingress_status("ours"));
    server.put(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "unrelated", "namespace": NAMESPACE},
        "spec": {},
    }));
    replica.writes_all(&matters).await;
    (server, replica)
}

fn names(server: &ApiServer, kind: &str) -> Vec<String> {
    let objects = server.objects(kind).into_iter();
    let names = objects.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned());
    names.collect()
}

fn entries(server: &ApiServer, name: &str) -> Value {
    let ingress = server.object("Ingress", "default", name).unwrap();
    ingress["status"]["loadBalancer"]["ingress"].clone()
}

#[tokio::test]
async fn everything_is_taken_back_while_the_controller_runs() {
    limited(async {
        let (server, replica) = installed().await;
        let follower = Replica::start(&server, "follower");
        let (left, said) = run(&server, &settings()).await;
        assert_eq!(left, [""; 0], "{said:?}");
        assert_eq!(names(&server, "Service"), ["unrelated"]);
        for namespace in ["edge", "other"] {
            let edge = server.object("LoadBalancer", namespace, "lb").unwrap();
            assert!(
                edge["metadata"]["finalizers"]
                    .as_array()
                    .is_none_or(Vec::is_empty),
                "{edge}"
            );
        }
        assert_eq!(entries(&server, "ours"), Value::Null);
        assert_eq!(entries(&server, "theirs"), json!([{"ip": "198.51.100.7"}]));
        assert_eq!(stored_lease(&server), None);
        assert!(!replica.is_leading() && !follower.is_leading());
        // And it stays so, until they end.
        server.forget_requests();
        soon("they have looked at the Lease", async || {
            (server.count("get", "leases") > 6).then_some(())
        })
        .await;
        assert_eq!(stored_lease(&server), None);
        replica.end().await;
        follower.end().await;
        assert_eq!(stored_lease(&server), None);

        let (left, _) = run(&server, &settings()).await;
        assert_eq!(left, [""; 0], "a second time");
        assert_eq!(stored_lease(&server), None);
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_was_killed_is_waited_for() {
    limited(async {
        let (server, replica) = installed().await;
        replica.kill();
        let (left, said) = run(&server, &settings()).await;
        assert_eq!(left, [""; 0], "{said:?}");
        assert!(
            said.contains(&"waiting for one to step down".to_owned()),
            "{said:?}"
        );
        assert_eq!(names(&server, "Service"), ["unrelated"]);
    })
    .await;
}

#[tokio::test]
async fn namespaces_that_are_not_watched_are_left_alone() {
    limited(async {
        let (server, _replica) = installed().await;
        let settings = UninstallSettings {
            namespaces: vec!["edge".to_owned(), "default".to_owned()],
            ..settings()
        };
        let (left, said) = run(&server, &settings).await;
        assert_eq!(left, [""; 0], "{said:?}");
        assert_eq!(names(&server, "Service"), ["lb-other-lb", "unrelated"]);
        let other = server.object("LoadBalancer", "other", "lb").unwrap();
        assert_eq!(
            other["metadata"]["finalizers"],
            json!(["holdfast.dev/owned-service"])
        );
    })
    .await;
}

#[tokio::test]
async fn a_server_without_our_resource_and_one_that_fails_now_and_then_are_no_obstacle() {
    limited(async {
        let (server, _replica) = installed().await;
        server.set_served("loadbalancers", false);
        for (verb, resource) in [
            ("patch", "leases"),
            ("list", "services"),
            ("delete", "services"),
            ("list", "ingresses"),
            ("patch", "ingresses/status"),
            ("delete", "leases"),
        ] {
            server.script(Rule::on(verb, resource, Fault::status(500, "no")).times(1));
            server.script(Rule::on(verb, resource, Fault::status(409, "no")).times(1));
        }
        let (left, said) = run(&server, &settings()).await;
        assert_eq!(left, [""; 0], "{said:?}");
        assert_eq!(names(&server, "Service"), ["unrelated"]);
        assert_eq!(entries(&server, "ours"), Value::Null);
    })
    .await;
}

#[tokio::test]
async fn what_is_left_is_told_and_done_the_next_time() {
    limited(async {
        let (server, replica) = installed().await;
        let mut stuck = server.object("Service", NAMESPACE, "lb-edge-lb").unwrap();
        stuck["metadata"]["finalizers"] = json!(["service.kubernetes.io/load-balancer-cleanup"]);
        server.put(stuck);
        let short = UninstallSettings {
            timeout: Duration::from_secs(2),
            ..settings()
        };
        let (left, _) = run(&server, &short).await;
        let stuck = "Service holdfast/lb-edge-lb: not gone yet".to_owned();
        assert!(left.contains(&stuck), "{left:?}");
        // Nobody leads for now, so nothing comes back before the next attempt.
        assert!(!replica.is_leading());
        assert_eq!(holder(&server).unwrap(), "");
        server.remove("Service", NAMESPACE, "lb-edge-lb");

        server.script(Rule::on(
            "patch",
            "ingresses/status",
            Fault::status(403, "cannot patch ingresses/status"),
        ));
        let (left, _) = run(&server, &settings()).await;
        assert_eq!(
            left,
            ["Ingress default/ours: cannot patch ingresses/status"]
        );
        server.behave();
        let (left, _) = run(&server, &settings()).await;
        assert_eq!(left, [""; 0]);
        assert_eq!(stored_lease(&server), None);
    })
    .await;
}
