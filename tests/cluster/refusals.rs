//! Rights and definitions that are missing.

use std::time::Duration;

use crate::api_server::{Fault, Rule};
use crate::controller::{Controller, edge_with_app, ingress, limited};

#[tokio::test]
async fn missing_rights_are_named_and_asking_for_them_is_not_a_busy_loop() {
    limited(async {
        let server = edge_with_app().await;
        server.put(ingress("app", "app.example", "app"));
        let denied = "ingresses.networking.k8s.io is forbidden: User \"system:serviceaccount:\
                      holdfast:holdfast\" cannot watch resource \"ingresses\"";
        server.script(Rule::on("*", "ingresses", Fault::status(403, denied)));
        let controller = Controller::start(&server);
        let report = controller
            .reported(&["watch of Ingress:", "[AccessDenied]"])
            .await;
        assert!(report.contains(denied), "{report}");
        let remedy = "the verbs list and watch on ingresses of the API group networking.k8s.io by \
                      a ClusterRole";
        assert!(report.contains(remedy), "{report}");
        let (ready, page) = controller.readyz().await;
        assert!(!ready && page.contains(remedy), "{page}");

        server.forget_requests();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let asked = server.count("watch", "ingresses");
        assert!((3..60).contains(&asked), "{asked} requests in two seconds");
        assert_eq!(server.count("list", "ingresses"), 0);

        server.behave();
        controller.becomes_ready().await;
        controller.serves("app.example", "app").await;
        controller.resolved("AccessDenied").await;
    })
    .await;
}

#[tokio::test]
async fn in_a_namespace_a_role_is_the_remedy() {
    limited(async {
        let server = edge_with_app().await;
        server.script(Rule::on("*", "secrets", Fault::status(403, "no")));
        let controller = Controller::start_with(&server, |source| {
            source.namespaces = vec!["shop".to_owned()];
        });
        let report = controller
            .reported(&["watch of Secret in namespace shop:"])
            .await;
        let remedy = "on secrets of the core API group (\"\") by a Role in namespace shop";
        assert!(report.contains(remedy), "{report}");
    })
    .await;
}

#[tokio::test]
async fn credentials_that_are_refused_are_said_to_be() {
    limited(async {
        let server = edge_with_app().await;
        server.script(Rule::on("*", "*", Fault::status(401, "Unauthorized")));
        let controller = Controller::start(&server);
        let report = controller
            .reported(&["watch of Service:", "[AccessDenied]"])
            .await;
        assert!(
            report.contains("does not accept our credentials"),
            "{report}"
        );
    })
    .await;
}

#[tokio::test]
async fn rights_that_are_taken_away_leave_what_was_served() {
    limited(async {
        let server = edge_with_app().await;
        server.put(ingress("app", "app.example", "app"));
        let controller = Controller::ready(&server).await;
        server.script(Rule::on("*", "*", Fault::status(403, "no")));
        server.cut_watches();
        let report = controller
            .reported(&["watch of Ingress:", "[AccessDenied]"])
            .await;
        assert!(
            report.contains("what was last known is still served"),
            "{report}"
        );
        assert!(controller.readyz().await.0);
        assert!(controller.get("app.example").await.ends_with("app"));
    })
    .await;
}

#[tokio::test]
async fn a_missing_crd_is_said_to_be_and_is_found_when_it_comes() {
    limited(async {
        let server = edge_with_app().await;
        server.put(ingress("app", "app.example", "app"));
        server.set_served("loadbalancers", false);
        let controller = Controller::start(&server);
        let report = controller
            .reported(&["watch of LoadBalancer:", "[KindNotServed]"])
            .await;
        assert!(
            report.contains("install the CRD: holdfast crd | kubectl apply -f -"),
            "{report}"
        );
        let (ready, page) = controller.readyz().await;
        assert!(!ready && page.contains("install the CRD"), "{page}");
        assert_eq!(controller.app.generation(), 0);

        server.set_served("loadbalancers", true);
        controller.becomes_ready().await;
        controller.serves("app.example", "app").await;
        controller.resolved("KindNotServed").await;
    })
    .await;
}
