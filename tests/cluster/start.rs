//! From the start to the first table.

use std::time::Duration;

use crate::api_server::{ApiServer, Fault, Rule};
use crate::controller::{Controller, edge, edge_with_app, ingress, limited, pace, pod};
use crate::harness::{service, soon};

const KINDS: [&str; 7] = [
    "endpointslices",
    "ingresses",
    "ingressclasses",
    "loadbalancers",
    "namespaces",
    "secrets",
    "services",
];

#[tokio::test]
async fn nothing_is_served_before_every_kind_is_listed_and_then_all_at_once() {
    for held in KINDS {
        limited(async {
            let server = edge_with_app().await;
            server.put(ingress("app", "app.example", "app"));
            server.script(Rule::on("*", held, Fault::Hang).times(1));
            let controller = Controller::start_with(&server, |source| {
                source.pace.answer = Duration::from_secs(60);
            });
            soon("the others are listed", async || {
                let (ready, page) = controller.readyz().await;
                assert!(!ready && page.starts_with("HTTP/1.1 503 "), "{page}");
                (page.matches("not listed yet").count() == 1).then_some(())
            })
            .await;
            assert!(controller.page("/healthz").await.0);
            assert_eq!(controller.app.generation(), 0);
            assert!(controller.app.addresses().is_empty(), "{held}");
            drop(controller);

            let controller = Controller::ready(&server).await;
            assert_eq!(controller.app.generation(), 1, "published in pieces");
            assert!(controller.get("app.example").await.ends_with("app"));
        })
        .await;
    }
}

#[tokio::test]
async fn a_list_that_stops_half_way_is_never_served_from() {
    limited(async {
        let server = edge_with_app().await;
        for name in ["a", "b", "c"] {
            server.put(ingress(name, &format!("{name}.example"), "app"));
        }
        server.script(Rule::on("watch", "ingresses", Fault::StopAfter(1)).times(1));
        let controller = Controller::start_with(&server, |source| {
            source.pace.answer = Duration::from_millis(500);
        });
        controller.becomes_ready().await;
        for host in ["a.example", "b.example", "c.example"] {
            assert!(controller.get(host).await.ends_with("app"), "{host}");
        }
        assert_eq!(controller.app.generation(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_comes_up_later_is_found() {
    limited(async {
        let server = ApiServer::down().await;
        let controller = Controller::start(&server);
        let (ready, page) = controller.readyz().await;
        assert!(!ready, "{page}");
        let report = controller.reported(&["watch of Ingress:"]).await;
        assert!(
            report.contains(&format!("{} cannot be reached", server.url())),
            "{report}"
        );
        assert!(report.contains("Connection refused"), "{report}");
        assert!(
            report.contains("nothing is served until it has been listed"),
            "{report}"
        );
        let (_, page) = controller.readyz().await;
        assert!(
            page.contains("watch of Secret: the API server at"),
            "{page}"
        );
        assert!(controller.page("/healthz").await.0);

        server.put_yaml(crate::harness::EDGE);
        server.put_yaml(&service("app", "", &[pod("app").await]));
        server.put(ingress("app", "app.example", "app"));
        server.come_back().await;
        controller.becomes_ready().await;
        controller.serves("app.example", "app").await;
        controller.resolved("WatchFailed").await;
    })
    .await;
}

#[tokio::test]
async fn a_server_without_streamed_lists_is_listed_by_pages_and_asked_only_once() {
    let faults = [
        Fault::status(
            422,
            "sendInitialEvents: Forbidden: is forbidden for watch unless enabled",
        ),
        Fault::status(400, "unknown parameter"),
        Fault::IgnoreInitialEvents,
    ];
    for fault in faults {
        limited(async {
            let server = edge_with_app().await;
            for number in 0..1100 {
                let host = format!("h{number}.example");
                server.put(ingress(&format!("i{number}"), &host, "app"));
            }
            server.script(Rule::on("watch", "ingresses", fault).times(1));
            let controller = Controller::start_with(&server, |source| {
                source.pace.answer = Duration::from_millis(500);
            });
            controller.becomes_ready().await;
            for host in ["h0.example", "h1099.example"] {
                assert!(controller.get(host).await.ends_with("app"), "{host}");
            }
            let requests = server.requests();
            let pages: Vec<_> = requests
                .iter()
                .filter(|request| request.verb == "list")
                .collect();
            assert_eq!(pages.len(), 3, "pages of 500");
            assert!(pages.iter().all(|page| page.resource == "ingresses"));
            assert_eq!(pages[0].parameter("continue"), None);

            // After a gap, it is not asked for again.
            server.forget_requests();
            server.compact();
            server.cut_watches();
            soon("listed again", async || {
                (server.count("list", "ingresses") == 3).then_some(())
            })
            .await;
            let asked = server.requests().into_iter().any(|request| {
                request.resource == "ingresses" && request.parameter("sendInitialEvents").is_some()
            });
            assert!(!asked);
        })
        .await;
    }
}

#[tokio::test]
async fn lists_are_streamed_where_the_server_does_that() {
    limited(async {
        let server = edge_with_app().await;
        let controller = Controller::ready(&server).await;
        for kind in KINDS {
            assert_eq!(server.count("list", kind), 0, "{kind}");
            let requests = server.requests();
            let first = requests
                .iter()
                .find(|request| request.resource == kind)
                .unwrap();
            assert_eq!(first.parameter("sendInitialEvents"), Some("true"), "{kind}");
            assert_eq!(
                first.parameter("allowWatchBookmarks"),
                Some("true"),
                "{kind}"
            );
            assert_eq!(first.namespace, None, "{kind}");
            assert!(
                first.user_agent.starts_with("holdfast/"),
                "{}",
                first.user_agent
            );
        }
        drop(controller);
    })
    .await;
}

#[tokio::test]
async fn with_namespaces_only_they_are_asked_for() {
    limited(async {
        let server = edge().await;
        let controller = Controller::start_with(&server, |source| {
            source.namespaces = ["shop", "edge", "shop"].map(str::to_owned).to_vec();
        });
        controller.becomes_ready().await;
        server.stall_watches();
        let watches = async || {
            let requests = server.requests();
            let watches = requests.iter().filter(|request| request.verb == "watch");
            (watches.count() > 20).then_some(())
        };
        soon("watches are renewed", watches).await;
        for request in server.requests() {
            let namespace = request.namespace.as_deref();
            assert!(
                matches!(namespace, Some("shop" | "edge")),
                "{}",
                request.uri
            );
            assert!(!matches!(
                request.resource.as_str(),
                "namespaces" | "ingressclasses"
            ));
        }
        for kind in [
            "ingresses",
            "secrets",
            "services",
            "endpointslices",
            "loadbalancers",
        ] {
            for namespace in ["shop", "edge"] {
                let requests = server.requests();
                let asked = requests.iter().any(|request| {
                    request.resource == kind && request.namespace.as_deref() == Some(namespace)
                });
                assert!(asked, "{kind} in {namespace}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_stopped_controller_leaves_no_watch_behind() {
    limited(async {
        let server = edge_with_app().await;
        let controller = Controller::start_with(&server, |source| {
            source.pace = holdfast::source::cluster::Pace {
                watch: Duration::from_secs(60),
                ..pace()
            };
        });
        controller.becomes_ready().await;
        for kind in KINDS {
            assert_eq!(server.open_watches(kind), 1, "{kind}");
        }
        controller.app.shutdown().await;
        let closed = async || {
            KINDS
                .iter()
                .all(|kind| server.open_watches(kind) == 0)
                .then_some(())
        };
        soon("all watches are closed", closed).await;
    })
    .await;
}
