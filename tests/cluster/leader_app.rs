//! The leader in the whole program.

use holdfast::api::FINALIZER;
use holdfast::config::{Config, Controller as Settings};
use holdfast::control::replicas::Replicas;
use holdfast::translate::TargetPorts;
use holdfast::translate::owned_service::Pods;
use holdfast::world::ObjectName;
use serde_json::{Value, json};

use crate::api_server::{ApiServer, Fault, Rule};
use crate::controller::{Controller, ingress, limited, pod};
use crate::harness::{service, soon};
use crate::leader::{NAMESPACE, holder, settings};

/// A load balancer that owns a Service, and its class.
pub const EDGE: &str = "
apiVersion: holdfast.dev/v1alpha1
kind: LoadBalancer
metadata: {name: edge, namespace: edge}
spec:
  listeners:
  - {name: http, port: 80, protocol: HTTP}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: holdfast}
spec:
  controller: holdfast.dev/ingress-controller
  parameters: {apiGroup: holdfast.dev, kind: LoadBalancer, scope: Namespace, namespace: edge, name: edge}
";

/// Lets a process write.
pub fn writes(config: &mut Config, identity: &str) {
    config.settings.target_ports = TargetPorts::Recorded;
    config.controller = Some(Settings {
        replicas: Replicas {
            pods: Pods {
                namespace: NAMESPACE.to_owned(),
                selector: [("app".to_owned(), "holdfast".to_owned())].into(),
            },
            peers: Some(ObjectName::new(NAMESPACE, "peers")),
            addresses: Vec::new(),
        },
        leader: settings(identity),
    });
}

fn start(server: &ApiServer, identity: &str) -> Controller {
    Controller::configured(server, |config| writes(config, identity))
}

fn addresses(object: &Value) -> Value {
    object["status"]["loadBalancer"]["ingress"].clone()
}

// The end of the process waits on a thread of the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_objects_is_written_to_the_api_server() {
    limited(async {
        let server = ApiServer::start().await;
        server.put_yaml(EDGE);
        server.put_yaml(&service("app", "", &[pod("app").await]));
        server.put(ingress("app", "app.example", "app"));
        let controller = start(&server, "one");
        controller.becomes_ready().await;

        let owned = soon("the owned Service", async || {
            let services = server.objects("Service");
            let mut services = services.into_iter();
            services.find(|service| service["metadata"]["namespace"] == NAMESPACE)
        })
        .await;
        let port = owned["spec"]["ports"][0]["targetPort"].clone();
        let edge = || server.object("LoadBalancer", "edge", "edge").unwrap();
        assert_eq!(edge()["metadata"]["finalizers"], json!([FINALIZER]));
        assert_eq!(edge()["status"]["listeners"][0]["targetPort"], port);

        // The cloud gives it an address.
        let mut given = owned.clone();
        given["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
        server.put(given);
        let wanted = json!([{"ip": "203.0.113.9"}]);
        soon("the Ingress has it", async || {
            let ingress = server.object("Ingress", "default", "app").unwrap();
            (addresses(&ingress) == wanted).then_some(())
        })
        .await;
        soon("the LoadBalancer has it", async || {
            let addresses = edge()["status"]["addresses"].clone();
            (addresses == json!([{"type": "IPAddress", "value": "203.0.113.9"}])).then_some(())
        })
        .await;
        controller.serves("app.example", "app").await;
        let (_, metrics) = controller.page("/metrics").await;
        assert!(metrics.contains("holdfast_leading 1"), "{metrics}");
        let written = "holdfast_api_writes_total{kind=\"ingress_status\",outcome=\"written\"} 1";
        assert!(metrics.contains(written), "{metrics}");

        // Deleted, the LoadBalancer goes after its Service.
        let name = owned["metadata"]["name"].as_str().unwrap().to_owned();
        server.delete("LoadBalancer", "edge", "edge");
        soon("both are gone", async || {
            let owned = server.object("Service", NAMESPACE, &name);
            let edge = server.object("LoadBalancer", "edge", "edge");
            (owned.is_none() && edge.is_none()).then_some(())
        })
        .await;
        soon("the Ingress has no address", async || {
            let ingress = server.object("Ingress", "default", "app").unwrap();
            addresses(&ingress).is_null().then_some(())
        })
        .await;

        let controller = controller.app;
        controller.shutdown().await;
        assert_eq!(holder(&server).unwrap(), "");
    })
    .await;
}

#[tokio::test]
async fn what_keeps_the_leader_from_writing_is_a_finding() {
    limited(async {
        let server = ApiServer::start().await;
        server.put_yaml(EDGE);
        server.script(Rule::on(
            "patch",
            "loadbalancers/status",
            Fault::status(403, "no right to loadbalancers/status"),
        ));
        let controller = start(&server, "one");
        controller.becomes_ready().await;
        controller
            .reported(&["writing loadbalancers/status", "no right", "WriteForbidden"])
            .await;
        let (_, findings) = controller.page("/findings").await;
        assert!(findings.contains("WriteForbidden"), "{findings}");
        server.behave();
        controller.resolved("WriteForbidden").await;
    })
    .await;
}

#[tokio::test]
async fn both_replicas_serve_and_one_writes() {
    limited(async {
        let server = ApiServer::start().await;
        server.put_yaml(EDGE);
        server.put_yaml(&service("app", "", &[pod("app").await]));
        server.put(ingress("app", "app.example", "app"));
        let replicas = ["one", "other"].map(|identity| start(&server, identity));
        for replica in &replicas {
            replica.becomes_ready().await;
            soon("its listener", async || {
                (!replica.app.addresses().is_empty()).then_some(())
            })
            .await;
            replica.serves("app.example", "app").await;
        }
        let leading = replicas.iter().filter(|replica| replica.app.is_leading());
        assert_eq!(leading.count(), 1);
    })
    .await;
}
