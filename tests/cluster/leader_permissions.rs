//! The table of rights against the requests that are made.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast::config::{Config, Source};
use holdfast::leader::permissions::{PERMISSIONS, Scope};
use holdfast::leader::{UninstallSettings, uninstall};
use holdfast::source::cluster::ApiServer as Server;
use holdfast::world::ObjectName;
use serde_json::json;

use crate::api_server::{ApiServer, Fault, Request, Rule};
use crate::controller::{Controller, ingress, limited};
use crate::harness::soon;
use crate::leader::{NAMESPACE, lease};
use crate::leader_app::{EDGE, writes};
use crate::pod_ends::terminating;

const CLUSTER_SCOPED: [&str; 2] = ["ingressclasses", "namespaces"];

/// A right, one verb of it.
type Right = (Scope, String, String, String);

fn group(request: &Request) -> String {
    let mut parts = request.uri.split('/').skip(1);
    match parts.next() {
        Some("apis") => parts.next().unwrap().to_owned(),
        _ => String::new(),
    }
}

/// The right that a request needs.
fn needed(request: &Request) -> Right {
    let scope = match request.namespace.as_deref() {
        _ if CLUSTER_SCOPED.contains(&&*request.resource) => Scope::Cluster,
        Some(NAMESPACE) => Scope::Own,
        _ => Scope::Watched,
    };
    (
        scope,
        group(request),
        request.resource.clone(),
        request.verb.to_owned(),
    )
}

fn granted() -> BTreeSet<Right> {
    let verbs = PERMISSIONS.iter().flat_map(|permission| {
        permission.verbs.iter().map(|verb| {
            (
                permission.scope,
                permission.group.to_owned(),
                permission.resource.to_owned(),
                (*verb).to_owned(),
            )
        })
    });
    verbs.collect()
}

/// A server that streams no lists to so many watches of a kind, so that both ways are gone.
fn by_pages(server: &ApiServer, watches: usize) {
    for resource in [
        "endpointslices",
        "ingressclasses",
        "ingresses",
        "loadbalancers",
        "namespaces",
        "secrets",
        "services",
    ] {
        server.script(Rule::on("watch", resource, Fault::status(422, "no")).times(watches));
    }
}

fn limited_to_namespaces(config: &mut Config) {
    writes(config, "two");
    let Source::Cluster(source) = &mut config.source else {
        panic!("a cluster");
    };
    source.namespaces = vec!["default".to_owned(), "edge".to_owned()];
    source.own_namespace = Some(NAMESPACE.to_owned());
    config.settings.sees_classes = false;
    config.settings.default_load_balancer = Some(ObjectName::new("edge", "edge"));
}

// The end of a process waits on a thread of the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_is_what_the_table_says() {
    limited(async {
        let server = ApiServer::start().await;
        server.put_yaml(EDGE);
        // Its Service does not exist, which is told.
        server.put(ingress("app", "app.example", "absent"));
        let address = "127.0.0.1:80".parse().unwrap();
        server.put_yaml(&terminating("gone", "absent", address, "gone"));
        by_pages(&server, 1);
        let controller = Controller::configured(&server, |config| writes(config, "one"));
        controller.becomes_ready().await;
        let owned = soon("the owned Service", async || {
            server.objects("Service").into_iter().next()
        })
        .await;
        let mut given = owned.clone();
        given["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
        server.put(given);
        soon("told and written", async || {
            let status = server.count("patch", "ingresses/status");
            let events = server.count("create", "events");
            (status > 0 && events > 0 && server.count("get", "pods") > 0).then_some(())
        })
        .await;
        controller.app.shutdown().await;

        // Two namespaces, and its own.
        by_pages(&server, 3);
        let controller = Controller::configured(&server, limited_to_namespaces);
        controller.becomes_ready().await;
        soon("told again", async || {
            (server.count("patch", "events") > 0).then_some(())
        })
        .await;
        server.delete("LoadBalancer", "edge", "edge");
        soon("the Service is deleted", async || {
            server.objects("Service").is_empty().then_some(())
        })
        .await;
        let client = Server::at(&server.url()).unwrap().client().unwrap();
        let settings = UninstallSettings {
            lease: lease("uninstall"),
            namespaces: vec!["default".to_owned(), "edge".to_owned()],
            timeout: Duration::from_secs(15),
        };
        let left = uninstall(client, &settings, &mut |_| {}).await;
        assert_eq!(left, [""; 0]);
        controller.app.shutdown().await;

        let granted = granted();
        let requests = server.requests();
        let mut used: BTreeSet<Right> = requests.iter().map(needed).collect();
        // An apply of what is not there yet needs the right to create it, too.
        let applied = (
            Scope::Own,
            String::new(),
            "services".to_owned(),
            "patch".to_owned(),
        );
        if let Some((scope, group, resource, _)) = used.get(&applied).cloned() {
            used.insert((scope, group, resource, "create".to_owned()));
        }
        let missing: Vec<&Right> = used.difference(&granted).collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
        let unused: Vec<&Right> = granted.difference(&used).collect();
        assert!(unused.is_empty(), "never used: {unused:?}");
    })
    .await;
}

#[test]
fn each_resource_has_one_line_a_scope_and_its_verbs_in_order() {
    let mut seen = BTreeSet::new();
    for permission in PERMISSIONS {
        let line = (permission.scope, permission.group, permission.resource);
        assert!(seen.insert(line), "{line:?} twice");
        assert!(permission.verbs.is_sorted(), "{line:?}");
    }
}
