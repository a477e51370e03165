//! Findings told as Events, where `kubectl describe` and `kubectl get events` show them.
//!
//! ```text
//! Agenda (told, not told lately) ─▶ at a bounded rate ─▶ create ─┬─ new
//!                                                                └─ there already ─▶ its series counts up
//! ```
//!
//! The name of an Event follows from the object's uid and the finding, so the same finding is one
//! Event, whichever replica tells it and however often it restarts. kube's `Recorder` is not used:
//! it knows Events by their reason and loses the words of a second finding with the same reason.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::{api::core, api::discovery};
use kube::Resource;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::agenda::Agenda;
use super::lease::{as_manager, body};
use super::notices::Notice;
use super::problems::Problems;
use super::rate::{Backoff, Bucket, Rate};
use super::server::{Failure, Server};
use crate::api::{CONTROLLER, FIELD_MANAGER, LoadBalancer};
use crate::metrics::Metrics;
use crate::world::Kind;
use crate::world::object::format_uid;

/// Limits of the API server.
const MAX_NOTE: usize = 1024;
const MAX_NAME: usize = 253;
const MAX_INSTANCE: usize = 128;
/// Cluster-scoped objects have their Events there.
const CLUSTER_NAMESPACE: &str = "default";
/// What we did when we found it.
const ACTION: &str = "Translate";
/// The resource in reports and the label in metrics.
const EVENTS: &str = "events";
/// An Event is a courtesy: after so many failures it is given up.
const ATTEMPTS: u32 = 3;

/// How Events are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventSettings {
    /// Requests a second.
    pub rate: Rate,
    /// For one request.
    pub deadline: Duration,
    /// After a failure.
    pub backoff: Backoff,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            rate: Rate {
                per_second: 5.0,
                burst: 50,
            },
            deadline: Duration::from_secs(5),
            backoff: Backoff {
                first: Duration::from_secs(1),
                limit: Duration::from_secs(10),
            },
        }
    }
}

/// Tells findings as Events.
#[derive(Debug)]
pub(super) struct Events<'a> {
    settings: EventSettings,
    server: Server,
    /// Who tells: the pod.
    instance: &'a str,
    agenda: &'a Agenda,
    problems: &'a Problems,
    metrics: &'a Metrics,
}

/// What is read of an Event that is there already.
#[derive(Debug, Deserialize)]
struct Told {
    series: Option<Count>,
}

#[derive(Debug, Deserialize)]
struct Count {
    count: i32,
}

impl<'a> Events<'a> {
    pub(super) fn new(
        settings: EventSettings,
        server: &Server,
        instance: &'a str,
        agenda: &'a Agenda,
        problems: &'a Problems,
        metrics: &'a Metrics,
    ) -> Self {
        Self {
            settings,
            server: server.within(settings.deadline),
            instance,
            agenda,
            problems,
            metrics,
        }
    }

    /// Tells findings while `leading`, until dropped.
    pub(super) async fn run(&self, mut leading: watch::Receiver<bool>) {
        let mut bucket = Bucket::new(self.settings.rate, Instant::now());
        while leading.wait_for(|leading| *leading).await.is_ok() {
            tokio::select! {
                biased;
                _ = leading.wait_for(|leading| !*leading) => {}
                () = self.tell_all(&mut bucket) => {}
            }
        }
    }

    async fn tell_all(&self, bucket: &mut Bucket) {
        loop {
            while let Some(notice) = self.agenda.take_notice() {
                self.tell_patiently(&notice, bucket).await;
            }
            self.agenda.told().await;
        }
    }

    async fn tell_patiently(&self, notice: &Notice, bucket: &mut Bucket) {
        for attempt in 0..ATTEMPTS {
            while let Err(at) = bucket.take(Instant::now()) {
                tokio::time::sleep_until(at).await;
            }
            let (outcome, failure) = match self.tell(notice).await {
                Ok(outcome) => (outcome, None),
                Err(failure @ Failure::Unavailable { .. }) => ("unavailable", Some(failure)),
                Err(failure) => ("refused", Some(failure)),
            };
            self.metrics.leader.wrote(EVENTS, outcome);
            let Some(failure) = failure else {
                self.problems.succeeded(EVENTS);
                return;
            };
            let object = &notice.finding.object;
            tracing::debug!(%object, error = %failure, "Event not told");
            self.problems.failed(EVENTS, &failure);
            let Failure::Unavailable { retry_after, .. } = failure else {
                return;
            };
            let pause = self.settings.backoff.after(attempt);
            let pause = retry_after.map_or(pause, |asked| asked.max(pause));
            tokio::time::sleep(pause).await;
        }
        self.metrics.leader.wrote(EVENTS, "given_up");
    }

    async fn tell(&self, notice: &Notice) -> Result<&'static str, Failure> {
        let now = jiff::Timestamp::now();
        let event = event(notice, self.instance, now);
        let namespace = event.metadata.namespace.as_deref();
        let request = Request::new(Event::url_path(&(), namespace));
        let create = request.create(&as_manager(), body(&event)?);
        match self.server.send::<IgnoredAny>(create).await {
            Ok(_) => return Ok("written"),
            Err(Failure::Conflict(_)) => {}
            // Its namespace is on its way out.
            Err(Failure::NotFound(_)) => return Ok("gone"),
            Err(failure) => return Err(failure),
        }
        let name = event.metadata.name.unwrap_or_default();
        let params = PatchParams::apply(FIELD_MANAGER);
        // An empty patch reads the Event without the right to read Events.
        let read = request.patch(&name, &params, &Patch::Merge(json!({})));
        let told: Told = match self.server.send(read).await {
            Ok(told) => told,
            // It has just expired; the next time it is new.
            Err(Failure::NotFound(_)) => return Ok("gone"),
            Err(failure) => return Err(failure),
        };
        let series = EventSeries {
            count: told
                .series
                .map_or(2, |series| series.count.saturating_add(1)),
            last_observed_time: MicroTime(now),
        };
        let patch = Patch::Merge(json!({"series": series}));
        let count_up = request.patch(&name, &params, &patch);
        match self.server.send::<IgnoredAny>(count_up).await {
            Ok(_) => Ok("repeated"),
            Err(Failure::NotFound(_)) => Ok("gone"),
            Err(failure) => Err(failure),
        }
    }
}

/// The Event of a finding.
fn event(notice: &Notice, instance: &str, now: jiff::Timestamp) -> Event {
    let finding = &notice.finding;
    let object = &finding.object;
    let name = &*object.name.name;
    let namespace = Some(&*object.name.namespace).filter(|namespace| !namespace.is_empty());
    let api_version = match object.kind {
        Kind::EndpointSlice => discovery::v1::EndpointSlice::api_version(&()),
        Kind::Ingress => Ingress::api_version(&()),
        Kind::IngressClass => IngressClass::api_version(&()),
        Kind::LoadBalancer => LoadBalancer::api_version(&()),
        Kind::Namespace => core::v1::Namespace::api_version(&()),
        Kind::Secret => core::v1::Secret::api_version(&()),
        Kind::Service => core::v1::Service::api_version(&()),
    };
    let note = if finding.field.is_empty() {
        finding.message.clone()
    } else {
        format!("{}: {}", finding.field, finding.message)
    };
    Event {
        metadata: ObjectMeta {
            name: Some(event_name(name, notice.fingerprint())),
            namespace: Some(namespace.unwrap_or(CLUSTER_NAMESPACE).to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some("Warning".to_owned()),
        reason: Some(finding.reason.as_str().to_owned()),
        action: Some(ACTION.to_owned()),
        note: Some(cut(&note, MAX_NOTE).to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(api_version.into_owned()),
            kind: Some(object.kind.as_str().to_owned()),
            namespace: namespace.map(str::to_owned),
            name: Some(name.to_owned()),
            uid: Some(format_uid(notice.uid)).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(instance, MAX_INSTANCE).to_owned()),
        ..Event::default()
    }
}

/// A DNS subdomain that begins with the name of the object.
fn event_name(object: &str, fingerprint: u64) -> String {
    let suffix = format!("{fingerprint:016x}");
    let prefix = cut(object, MAX_NAME - suffix.len() - 1).trim_end_matches(['.', '-']);
    if prefix.is_empty() {
        suffix
    } else {
        format!("{prefix}.{suffix}")
    }
}

/// No longer than `limit` bytes, cut between characters.
fn cut(text: &str, limit: usize) -> &str {
    text.split_at_checked(text.floor_char_boundary(limit))
        .map_or(text, |(head, _)| head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::finding::{Finding, Reason, Severity};
    use crate::world::{ObjectKey, ObjectName};

    fn notice(kind: Kind, namespace: &str, name: &str, message: &str) -> Notice {
        Notice {
            finding: Finding {
                object: ObjectKey::new(kind, ObjectName::new(namespace, name)),
                severity: Severity::Error,
                reason: Reason::ServiceNotFound,
                field: "spec.rules[0]".to_owned(),
                message: message.to_owned(),
            },
            uid: 0x0000_0001_0002_0003_0004_0000_0000_0005,
        }
    }

    #[test]
    fn an_event_says_what_the_finding_says() {
        let notice = notice(Kind::Ingress, "shop", "cart", "no such Service; make it");
        let event = event(&notice, "pod-1", jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(
            event.note.as_deref(),
            Some("spec.rules[0]: no such Service; make it")
        );
        assert_eq!(event.reason.as_deref(), Some("ServiceNotFound"));
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        let regarding = event.regarding.unwrap();
        assert_eq!(
            regarding.api_version.as_deref(),
            Some("networking.k8s.io/v1")
        );
        assert_eq!(
            regarding.uid.as_deref(),
            Some("00000001-0002-0003-0004-000000000005")
        );
    }

    #[test]
    fn events_of_cluster_scoped_objects_are_in_the_default_namespace() {
        let notice = notice(Kind::IngressClass, "", "edge", "…");
        let event = event(&notice, "pod-1", jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.regarding.unwrap().namespace, None);
    }

    #[test]
    fn names_are_valid_and_differ_from_finding_to_finding() {
        let one = notice(Kind::Ingress, "shop", "cart", "a").fingerprint();
        let other = notice(Kind::Ingress, "shop", "cart", "b").fingerprint();
        assert_ne!(event_name("cart", one), event_name("cart", other));
        for object in [
            "a",
            "",
            &"x".repeat(253),
            &format!("{}.-y", "x".repeat(234)),
        ] {
            let name = event_name(object, one);
            assert!(name.len() <= MAX_NAME, "{name}");
            for label in name.split('.') {
                assert!(
                    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'),
                    "{name}"
                );
            }
        }
        // In other processes and versions too: a restart must not tell everything anew.
        assert_eq!(event_name("cart", one), "cart.0125788bced7a02d");
    }

    #[test]
    fn long_notes_are_cut_between_characters() {
        let notice = notice(Kind::Ingress, "shop", "cart", &"ä".repeat(2000));
        let event = event(&notice, "pod-1", jiff::Timestamp::UNIX_EPOCH);
        let note = event.note.unwrap();
        assert!(note.len() <= MAX_NOTE && note.len() > MAX_NOTE - 4);
    }
}
