//! Findings as Events.

use holdfast::leader::Notice;
use holdfast::translate::finding::{Finding, Reason, Severity};
use holdfast::world::{Kind, ObjectKey, ObjectName};
use serde_json::Value;

use crate::api_server::{ApiServer, Fault, Rule};
use crate::controller::limited;
use crate::harness::soon;
use crate::leader::{Replica, writes};

fn notice(kind: Kind, namespace: &str, name: &str, message: &str) -> Notice {
    Notice {
        finding: Finding {
            object: ObjectKey::new(kind, ObjectName::new(namespace, name)),
            severity: Severity::Error,
            reason: Reason::ServiceNotFound,
            field: "spec.rules[0]".to_owned(),
            message: message.to_owned(),
        },
        uid: 0xabc,
    }
}

fn cart() -> Notice {
    notice(
        Kind::Ingress,
        "shop",
        "cart",
        "there is no Service shop/cart; make it",
    )
}

async fn told(server: &ApiServer, count: usize) -> Vec<Value> {
    soon(&format!("{count} Events"), async || {
        let events = server.objects("Event");
        (events.len() == count).then_some(events)
    })
    .await
}

#[tokio::test]
async fn a_finding_becomes_an_event_in_the_same_words() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::leader(&server).await;
        replica.agenda.tell(cart());
        let event = told(&server, 1).await.remove(0);
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["reason"], "ServiceNotFound");
        assert_eq!(
            event["note"],
            "spec.rules[0]: there is no Service shop/cart; make it"
        );
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!(event["regarding"]["kind"], "Ingress");
        assert_eq!(event["regarding"]["name"], "cart");
        assert_eq!(
            event["regarding"]["uid"],
            "00000000-0000-0000-0000-000000000abc"
        );
        assert_eq!(
            event["reportingController"],
            "holdfast.dev/ingress-controller"
        );
        assert_eq!(event["reportingInstance"], "one");
        assert!(event["eventTime"].is_string());
        assert_eq!(event["series"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn findings_with_the_same_reason_are_events_of_their_own() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::leader(&server).await;
        for message in ["a", "b", "c", "a", "b"] {
            replica
                .agenda
                .tell(notice(Kind::Ingress, "shop", "cart", message));
        }
        let events = told(&server, 3).await;
        let notes: Vec<&str> = events
            .iter()
            .map(|event| event["note"].as_str().unwrap())
            .collect();
        for message in ["a", "b", "c"] {
            let note = format!("spec.rules[0]: {message}");
            assert!(notes.contains(&&*note), "{notes:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_restart_counts_up_the_event_that_is_there() {
    limited(async {
        let server = ApiServer::start().await;
        for count in [None, Some(2), Some(3)] {
            let replica = Replica::leader(&server).await;
            replica.agenda.tell(cart());
            let event = soon("told", async || {
                let events = server.objects("Event");
                let event = events.into_iter().next()?;
                (event["series"]["count"].as_u64() == count).then_some(event)
            })
            .await;
            assert_eq!(
                event["note"],
                "spec.rules[0]: there is no Service shop/cart; make it"
            );
            assert_eq!(
                event["series"]["lastObservedTime"].is_string(),
                count.is_some()
            );
            replica.end().await;
        }
        told(&server, 1).await;
    })
    .await;
}

#[tokio::test]
async fn events_of_cluster_scoped_objects_are_in_the_namespace_default() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::leader(&server).await;
        replica
            .agenda
            .tell(notice(Kind::IngressClass, "", "edge", "what"));
        let event = told(&server, 1).await.remove(0);
        assert_eq!(event["metadata"]["namespace"], "default");
        assert_eq!(event["regarding"].get("namespace"), None);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_cannot_be_told_is_tried_a_few_times_and_given_up() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::leader(&server).await;
        server.script(Rule::on("create", "events", Fault::status(500, "no")).times(2));
        replica.agenda.tell(cart());
        told(&server, 1).await;
        server.script(Rule::on("create", "events", Fault::status(500, "no")).times(3));
        server
            .script(Rule::on("create", "events", Fault::status(403, "namespace is gone")).times(1));
        for message in ["given up", "refused", "told"] {
            replica
                .agenda
                .tell(notice(Kind::Ingress, "shop", "cart", message));
        }
        let events = told(&server, 2).await;
        assert!(
            events
                .iter()
                .any(|event| event["note"] == "spec.rules[0]: told")
        );
        assert_eq!(replica.count("events", "given_up"), 1);
        assert_eq!(replica.count("events", "refused"), 1);
        assert_eq!(replica.count("events", "written"), 2);
    })
    .await;
}

#[tokio::test]
async fn an_event_is_not_told_in_a_namespace_that_is_going() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::leader(&server).await;
        server.script(Rule::on("create", "events", Fault::NamespaceTerminating).times(1));
        replica.agenda.tell(cart());
        replica
            .agenda
            .tell(notice(Kind::Ingress, "shop", "cart", "the next one"));
        told(&server, 1).await;
        // No right is missing.
        assert_eq!(replica.count("events", "refused"), 0);
        assert_eq!(replica.problems(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn only_the_leader_tells() {
    limited(async {
        let server = ApiServer::start().await;
        let one = Replica::leader(&server).await;
        let other = Replica::start(&server, "other");
        other.agenda.tell(cart());
        one.agenda
            .tell(notice(Kind::Ingress, "shop", "cart", "the leader's"));
        told(&server, 1).await;
        assert_eq!(writes(&server, "events").len(), 1);
        one.end().await;
        told(&server, 2).await;
    })
    .await;
}
