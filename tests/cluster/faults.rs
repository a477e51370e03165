//! Watches that go wrong while the server is there.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api_server::watching::line;
use crate::api_server::{ApiServer, Fault, Rule, Then};
use crate::controller::{Controller, edge_with_app, ingress, limited};
use crate::harness::soon;

/// An Ingress `kept` for `kept.example` that is served.
async fn served() -> (ApiServer, Controller) {
    let server = edge_with_app().await;
    server.put(ingress("kept", "kept.example", "app"));
    let controller = Controller::ready(&server).await;
    controller.serves("kept.example", "app").await;
    (server, controller)
}

/// The latest version of an object as an event.
fn event(sort: &str, object: &Value) -> String {
    line(sort, object)
}

fn gone() -> String {
    event(
        "ERROR",
        &json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}),
    )
}

#[tokio::test]
async fn after_a_410_everything_is_listed_again_and_deletions_in_the_gap_are_noticed() {
    limited(async {
        let (server, controller) = served().await;
        server.put(ingress("leaves", "leaves.example", "app"));
        controller.serves("leaves.example", "app").await;
        let generation = controller.app.generation();
        server.go_away();
        server.remove("Ingress", "default", "leaves");
        server.put(ingress("comes", "comes.example", "app"));
        server.compact();
        server.come_back().await;
        controller.serves("comes.example", "app").await;
        controller.answers("leaves.example", 404).await;
        assert!(controller.get("kept.example").await.ends_with("app"));
        // The list came as one: nothing vanished in between.
        assert_eq!(controller.app.generation(), generation + 1);
    })
    .await;
}

#[tokio::test]
async fn a_410_in_mid_watch_is_no_problem_and_is_answered_with_a_list() {
    limited(async {
        let (server, controller) = served().await;
        server.forget_requests();
        server.inject("ingresses", &gone(), Then::GoOn);
        soon("listed again", async || {
            let requests = server.requests();
            let listed = requests.iter().any(|request| {
                request.resource == "ingresses" && request.parameter("sendInitialEvents").is_some()
            });
            listed.then_some(())
        })
        .await;
        server.put(ingress("new", "new.example", "app"));
        controller.serves("new.example", "app").await;
        assert_eq!(controller.reports(), [] as [String; 0]);
    })
    .await;
}

#[tokio::test]
async fn duplicate_events_change_nothing() {
    limited(async {
        let (server, controller) = served().await;
        let generation = controller.app.generation();
        let kept = server.object("Ingress", "default", "kept").unwrap();
        let twice = event("MODIFIED", &kept).repeat(2) + &event("ADDED", &kept);
        server.inject("ingresses", &twice, Then::GoOn);
        server.put(ingress("new", "new.example", "app"));
        controller.serves("new.example", "app").await;
        assert!(controller.get("kept.example").await.ends_with("app"));
        assert_eq!(controller.app.generation(), generation + 1);
    })
    .await;
}

#[tokio::test]
async fn events_out_of_order_do_not_bring_back_what_was() {
    limited(async {
        let (server, controller) = served().await;
        let old = server.object("Ingress", "default", "kept").unwrap();
        server.put(ingress("kept", "changed.example", "app"));
        controller.serves("changed.example", "app").await;
        server.put(ingress("leaves", "leaves.example", "app"));
        let leaves = server.object("Ingress", "default", "leaves").unwrap();
        server.remove("Ingress", "default", "leaves");
        // What was said before is said again, behind what is said last.
        let stale = event("MODIFIED", &old) + &event("ADDED", &leaves);
        server.forget_requests();
        server.inject("ingresses", &stale, Then::GoOn);
        server.put(ingress("last", "last.example", "app"));
        controller.serves("last.example", "app").await;
        soon("listed again", async || {
            let requests = server.requests();
            let listed = requests.iter().any(|request| {
                request.resource == "ingresses" && request.parameter("sendInitialEvents").is_some()
            });
            listed.then_some(())
        })
        .await;
        controller.answers("kept.example", 404).await;
        controller.answers("leaves.example", 404).await;
        assert!(controller.get("changed.example").await.ends_with("app"));
    })
    .await;
}

#[tokio::test]
async fn a_silent_watch_is_replaced_within_its_deadline() {
    limited(async {
        let (server, controller) = served().await;
        server.stall_watches();
        let stalled = Instant::now();
        server.put(ingress("new", "new.example", "app"));
        controller.serves("new.example", "app").await;
        // A watch of 1 s, a margin of 0.5 s, and the machine's own time.
        assert!(
            stalled.elapsed() < Duration::from_secs(5),
            "{:?}",
            stalled.elapsed()
        );
        assert_eq!(controller.reports(), [] as [String; 0]);
    })
    .await;
}

#[tokio::test]
async fn cut_watches_lose_nothing_and_are_no_problem() {
    limited(async {
        let (server, controller) = served().await;
        server.forget_requests();
        for round in 0..20 {
            server.cut_watches();
            server.put(ingress("new", &format!("new{round}.example"), "app"));
            server.cut_watches();
            controller
                .serves(&format!("new{round}.example"), "app")
                .await;
        }
        let listed = server
            .requests()
            .into_iter()
            .any(|request| request.parameter("sendInitialEvents").is_some());
        assert!(!listed, "continued, not listed again");
        assert_eq!(controller.reports(), [] as [String; 0]);
    })
    .await;
}

#[tokio::test]
async fn lines_that_cannot_be_read_lose_no_event() {
    let broken = [
        (
            "no JSON",
            "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":\n",
            Then::GoOn,
        ),
        ("no event", "[]\n", Then::GoOn),
        (
            "another type",
            "{\"type\":\"SURPRISE\",\"object\":{}}\n",
            Then::GoOn,
        ),
        (
            "cut off",
            "{\"type\":\"MODIFIED\",\"object\":{\"meta",
            Then::End,
        ),
        (
            "broken off",
            "{\"type\":\"MODIFIED\",\"object\":{\"meta",
            Then::Break,
        ),
    ];
    for (what, bytes, then) in broken {
        limited(async {
            let (server, controller) = served().await;
            server.garble(ingress("new", "new.example", "app"), bytes, then);
            server.put(ingress("next", "next.example", "app"));
            controller.serves("next.example", "app").await;
            let answer = controller.get("new.example").await;
            assert!(answer.ends_with("app"), "{what}: {answer}");
            controller.resolved("WatchFailed").await;
            assert!(
                controller.get("kept.example").await.ends_with("app"),
                "{what}"
            );
        })
        .await;
    }
}

#[tokio::test]
async fn refusals_and_resets_are_tried_again_at_a_growing_distance() {
    let faults = [
        (
            Fault::status(500, "etcdserver: no leader"),
            "status 500: etcdserver: no leader",
        ),
        (
            Fault::status(503, "apiserver is shutting down"),
            "status 503",
        ),
        (Fault::status(429, "too many requests"), "status 429"),
        (Fault::Reset, "cannot be reached"),
        (Fault::Hang, "has not answered for"),
        (
            Fault::Body("<html>busy</html>\n".to_owned()),
            "cannot be read",
        ),
    ];
    for (fault, words) in faults {
        limited(async {
            let (server, controller) = served().await;
            server.script(Rule::on("*", "ingresses", fault));
            server.cut_watches();
            let report = controller.reported(&["watch of Ingress:", words]).await;
            assert!(
                report.contains("what was last known is still served"),
                "{report}"
            );
            assert!(report.ends_with("[WatchFailed]"), "{report}");
            assert!(controller.readyz().await.0, "{words}");
            assert!(
                controller.get("kept.example").await.ends_with("app"),
                "{words}"
            );
            // What the others say still arrives.
            server.remove("EndpointSlice", "default", "app-0");
            controller.answers("kept.example", 503).await;

            server.behave();
            server.put(ingress("new", "new.example", "app"));
            controller.answers("new.example", 503).await;
            controller.resolved("WatchFailed").await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_asks_to_be_left_alone_is() {
    limited(async {
        let (server, controller) = served().await;
        let fault = Fault::Status {
            code: 429,
            message: "busy".to_owned(),
            retry_after: Some(2),
        };
        server.script(Rule::on("watch", "ingresses", fault).times(1));
        server.forget_requests();
        server.cut_watches();
        controller
            .reported(&["watch of Ingress:", "status 429"])
            .await;
        let refused = Instant::now();
        let again = async || (server.count("watch", "ingresses") > 1).then_some(());
        soon("asked again", again).await;
        let waited = refused.elapsed();
        assert!(waited > Duration::from_millis(1500), "{waited:?}");
    })
    .await;
}

#[tokio::test]
async fn a_410_each_time_does_not_make_a_busy_loop() {
    limited(async {
        let (server, controller) = served().await;
        server.script(Rule::on("watch", "ingresses", Fault::Body(gone())));
        server.forget_requests();
        server.cut_watches();
        tokio::time::sleep(Duration::from_secs(2)).await;
        // From 10 ms to 200 ms: some 20 in two seconds.
        let asked = server.count("watch", "ingresses");
        assert!((3..60).contains(&asked), "{asked} requests");
        drop(controller);
    })
    .await;
}
