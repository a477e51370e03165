//! Objects that cannot be read, and what is not kept of those that can.

use holdfast::source::cluster::ApiServer as Address;
use holdfast::source::{ClusterSource, Update};
use holdfast::world::{Delta, Kind, Object};
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::api_server::{ApiServer, Fault, Rule};
use crate::controller::{Controller, edge_with_app, ingress, limited, pace};
use crate::harness::{PATIENCE, soon};

/// A load balancer that an older or newer CRD lets pass.
fn odd(name: &str, port: &Value) -> Value {
    json!({
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "LoadBalancer",
        "metadata": {"name": name, "namespace": "edge"},
        "spec": {
            "exposure": "Host",
            "listeners": [{"name": name, "port": port, "protocol": "HTTP"}],
        },
    })
}

fn listeners(controller: &Controller) -> Vec<String> {
    let addresses = controller.app.addresses();
    addresses.keys().map(|id| id.name.to_string()).collect()
}

#[tokio::test]
async fn a_load_balancer_that_cannot_be_read_takes_no_other_with_it() {
    for by_pages in [false, true] {
        limited(async {
            let server = edge_with_app().await;
            if by_pages {
                server
                    .script(Rule::on("watch", "loadbalancers", Fault::status(422, "no")).times(1));
            }
            server.put(ingress("app", "app.example", "app"));
            server.put(odd("odd", &json!("eighty")));
            let controller = Controller::ready(&server).await;
            controller.serves("app.example", "app").await;
            let report = controller.reported(&["LoadBalancer edge/odd:"]).await;
            assert!(report.contains("spec.listeners[0].port: "), "{report}");
            assert!(report.contains("expected u16"), "{report}");
            assert!(report.ends_with("[SpecInvalid]"), "{report}");

            server.put(odd("odd", &json!(8080)));
            let both = async || (listeners(&controller).len() == 3).then_some(());
            soon("its listener", both).await;
            controller.resolved("SpecInvalid").await;

            // What was good of it stays, through a new list too, until it is gone.
            server.put(odd("odd", &json!({})));
            controller.reported(&["LoadBalancer edge/odd:"]).await;
            assert!(listeners(&controller).contains(&"odd".to_owned()));
            server.forget_requests();
            server.compact();
            server.cut_watches();
            soon("listed again", async || {
                let requests = server.requests();
                let mut of = requests
                    .iter()
                    .filter(|one| one.resource == "loadbalancers");
                of.any(|one| one.verb == "list" || one.parameter("sendInitialEvents").is_some())
                    .then_some(())
            })
            .await;
            server.put(ingress("new", "new.example", "app"));
            controller.serves("new.example", "app").await;
            assert!(listeners(&controller).contains(&"odd".to_owned()));
            server.remove("LoadBalancer", "edge", "odd");
            let one = async || (listeners(&controller).len() == 2).then_some(());
            soon("its listener is gone", one).await;
            controller.resolved("SpecInvalid").await;
        })
        .await;
    }
}

#[tokio::test]
async fn an_unreadable_secret_is_reported_without_what_it_holds() {
    limited(async {
        let server = edge_with_app().await;
        server.put(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "odd", "namespace": "default"},
            "type": "kubernetes.io/tls",
            "data": {"tls.key": "hunter2 is not base64"},
        }));
        let controller = Controller::ready(&server).await;
        let report = controller.reported(&["Secret default/odd:"]).await;
        assert!(!report.contains("hunter2"), "{report}");
    })
    .await;
}

/// What the source alone says, until everything is listed.
async fn listed(server: &ApiServer) -> Vec<Object> {
    let mut source = ClusterSource::new(Address::at(&server.url()).unwrap(), Vec::new());
    source.pace = pace();
    let client = source.server.client().unwrap();
    let stop = CancellationToken::new();
    let mut updates: Receiver<Update> = source.start(client, stop.clone());
    let mut objects = Vec::new();
    loop {
        let update = tokio::time::timeout(PATIENCE, updates.recv()).await;
        let update = update.expect("in time").expect("goes on");
        for delta in update.deltas {
            if let Delta::Reset(_, list, _) = delta {
                objects.extend(list);
            }
        }
        if update.unlisted.is_empty() {
            stop.cancel();
            return objects;
        }
    }
}

fn secret(name: &str, secret_type: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "type": secret_type,
        "data": {"tls.crt": "Y2VydA==", "tls.key": "a2V5", "password": "aHVudGVyMg=="},
    })
}

#[tokio::test]
async fn of_secrets_only_certificates_are_kept_and_many_are_not_even_sent() {
    limited(async {
        let foreign = [
            "helm.sh/release.v1",
            "kubernetes.io/service-account-token",
            "kubernetes.io/dockerconfigjson",
            "kubernetes.io/dockercfg",
            "bootstrap.kubernetes.io/token",
        ];
        let server = ApiServer::start().await;
        for (number, secret_type) in foreign.into_iter().enumerate() {
            server.put(secret(&format!("foreign-{number}"), secret_type));
        }
        server.put(secret("opaque", "Opaque"));
        server.put(secret("tls", "kubernetes.io/tls"));
        let objects = listed(&server).await;
        let secrets: Vec<_> = objects
            .iter()
            .filter_map(|object| match object {
                Object::Secret(secret) => Some(&**secret),
                _ => None,
            })
            .collect();
        let held: Vec<_> = secrets
            .iter()
            .map(|secret| {
                let name = secret.meta.name.name.to_string();
                (name, secret.secret_type.as_str(), secret.key.is_some())
            })
            .collect();
        assert_eq!(
            held,
            [
                ("opaque".to_owned(), "Opaque", false),
                ("tls".to_owned(), "kubernetes.io/tls", true),
            ]
        );
        assert_eq!(secrets[1].certificate.as_deref(), Some(b"cert".as_slice()));
        let requests = server.requests();
        let asked = requests
            .iter()
            .filter(|request| request.resource == "secrets");
        for request in asked {
            let selector = request.parameter("fieldSelector").unwrap();
            for secret_type in foreign {
                assert!(
                    selector.contains(&format!("type!={secret_type}")),
                    "{selector}"
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn objects_of_every_kind_come_with_their_namespace_and_name() {
    limited(async {
        let server = edge_with_app().await;
        server.put(ingress("app", "app.example", "app"));
        server.put(secret("tls", "kubernetes.io/tls"));
        server
            .put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}));
        let mut keys: Vec<String> = listed(&server)
            .await
            .iter()
            .map(|object| object.key().to_string())
            .collect();
        keys.sort();
        assert_eq!(
            keys,
            [
                "EndpointSlice default/app-0",
                "Ingress default/app",
                "IngressClass holdfast",
                "LoadBalancer edge/edge",
                "Namespace default",
                "Secret default/tls",
                "Service default/app",
            ]
        );
        assert_eq!(keys.len(), Kind::ALL.len());
    })
    .await;
}
