//! When terminating pods end: one GET a pod, as EndpointSlices do not say it.
//!
//! ```text
//! EndpointSlices ─▶ note: pods that are terminating ─▶ waiting ─▶ GET, a few at a time ─▶ PodEnds
//!                     (bound)                                      └─ may pass: again, a few times
//! ```
//!
//! To watch all pods would cost far more than all else that is watched. Of what is not found out
//! nothing is said, and drains go on as if nobody had asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::GetParams;
use kube::core::request::Request;
use tokio::task::JoinSet;

use super::Pace;
use super::answer::Answer;
use super::backoff::Backoff;
use super::failure::Failure;
use super::wire;
use crate::translate::finding::{Reason, Severity};
use crate::translate::report::{Report, Subject};
use crate::world::{Delta, EndpointSlice, Kind, Object, ObjectName, PodEnd, PodId};

/// GETs under way, pauses between two attempts included.
const AT_A_TIME: usize = 8;
/// Pods that are known at a time; of more nobody asks.
const PODS: usize = 10_000;
/// How often a pod is asked for.
const ATTEMPTS: u32 = 3;
/// For an answer, at most: who learns it later has little use for it.
const ANSWER: Duration = Duration::from_secs(5);

/// What becomes known of a pod.
type Outcome = Result<Option<PodEnd>, Failure>;

/// See the module.
pub(super) struct PodReader {
    client: Client,
    pace: Pace,
    /// The server's, for the words of the problem.
    address: String,
    /// Where pods are asked for; none = everywhere.
    namespaces: BTreeSet<Arc<str>>,
    /// What slices name, as far as it is known here.
    slices: BTreeMap<ObjectName, BTreeSet<Arc<PodId>>>,
    /// By how many slices each pod is named.
    pods: BTreeMap<Arc<PodId>, usize>,
    waiting: BTreeSet<Arc<PodId>>,
    reads: JoinSet<(Arc<PodId>, Outcome)>,
    /// That it is not allowed, and where that was found out first.
    denied: Option<(Arc<str>, Report)>,
}

impl PodReader {
    pub(super) fn new(client: Client, pace: Pace, address: String, namespaces: &[String]) -> Self {
        Self {
            client,
            pace,
            address,
            namespaces: namespaces.iter().map(|name| name.as_str().into()).collect(),
            slices: BTreeMap::new(),
            pods: BTreeMap::new(),
            waiting: BTreeSet::new(),
            reads: JoinSet::new(),
            denied: None,
        }
    }

    /// Takes note of which pods are terminating after a delta.
    pub(super) fn note(&mut self, delta: &Delta) {
        match delta {
            Delta::Apply(Object::EndpointSlice(slice)) => self.note_slice(slice),
            Delta::Delete(key) if key.kind == Kind::EndpointSlice => {
                self.set(&key.name, BTreeSet::new());
            }
            Delta::Reset(scope, objects, unreadable) if scope.kind == Kind::EndpointSlice => {
                let there: BTreeSet<&ObjectName> = objects
                    .iter()
                    .map(|object| &object.meta().name)
                    .chain(unreadable)
                    .collect();
                let gone: Vec<ObjectName> = self
                    .slices
                    .keys()
                    .filter(|name| scope.contains(name) && !there.contains(name))
                    .cloned()
                    .collect();
                for object in objects {
                    if let Object::EndpointSlice(slice) = object {
                        self.note_slice(slice);
                    }
                }
                for name in gone {
                    self.set(&name, BTreeSet::new());
                }
            }
            _ => {}
        }
    }

    /// Waits for what becomes known next; `None` = of a pod nothing does. To be asked again and
    /// again, for ever.
    pub(super) async fn next(&mut self) -> Option<Delta> {
        while self.reads.len() < AT_A_TIME
            && let Some(pod) = self.waiting.pop_first()
        {
            let (client, pace) = (self.client.clone(), self.pace.clone());
            self.reads.spawn(async move {
                let outcome = read(&client, &pod, &pace).await;
                (pod, outcome)
            });
        }
        match self.reads.join_next().await {
            Some(Ok((pod, outcome))) => self.take_in(pod, outcome),
            Some(Err(_)) => None,
            None => std::future::pending().await,
        }
    }

    /// What keeps it from asking.
    pub(super) fn problem(&self) -> Option<&Report> {
        self.denied.as_ref().map(|(_, report)| report)
    }

    fn note_slice(&mut self, slice: &EndpointSlice) {
        let name = &slice.meta.name;
        let is_ours = self.namespaces.is_empty() || self.namespaces.contains(&name.namespace);
        if is_ours {
            // A slice without a Service serves nobody.
            let pods = slice.terminating().filter(|_| slice.service.is_some());
            self.set(name, pods.cloned().collect());
        }
    }

    fn set(&mut self, slice: &ObjectName, mut now: BTreeSet<Arc<PodId>>) {
        let before = self.slices.remove(slice).unwrap_or_default();
        now.retain(|pod| {
            if before.contains(pod) {
                return true;
            }
            if let Some(slices) = self.pods.get_mut(pod) {
                *slices += 1;
                return true;
            }
            let has_room = self.pods.len() < PODS;
            if has_room {
                self.pods.insert(Arc::clone(pod), 1);
                self.waiting.insert(Arc::clone(pod));
            }
            has_room
        });
        for pod in before.difference(&now) {
            if let Some(slices) = self.pods.get_mut(pod) {
                *slices -= 1;
                if *slices == 0 {
                    self.pods.remove(pod);
                    self.waiting.remove(pod);
                }
            }
        }
        if !now.is_empty() {
            self.slices.insert(slice.clone(), now);
        }
    }

    fn take_in(&mut self, pod: Arc<PodId>, outcome: Outcome) -> Option<Delta> {
        tracing::debug!(pod = %pod.name, ?outcome, "asked when a pod ends");
        let namespace = &pod.name.namespace;
        match outcome {
            Err(Failure::Refused {
                code: 403, message, ..
            }) => {
                // Each refusal names another pod. It is one problem, in the words of the first.
                self.denied.get_or_insert_with(|| {
                    let report = denial(&self.address, &message, &self.namespaces, namespace);
                    (Arc::clone(namespace), report)
                });
                None
            }
            Err(_) => None,
            Ok(end) => {
                self.denied.take_if(|(denied, _)| denied == namespace);
                let is_named = self.pods.contains_key(&pod);
                let end = end.filter(|_| is_named)?;
                Some(Delta::PodEnds(pod, end))
            }
        }
    }
}

/// Asks until there is an answer, or none is to be expected.
async fn read(client: &Client, pod: &PodId, pace: &Pace) -> Outcome {
    let mut backoff = Backoff::new(pace.retry.clone());
    let mut attempt = 1;
    let most = pace.answer.min(ANSWER);
    loop {
        let outcome = tokio::time::timeout(most, ask(client, pod, most));
        match outcome.await.unwrap_or(Err(Failure::NoAnswer(most))) {
            Err(failure) if failure.may_pass() && attempt < ATTEMPTS => {
                let wait = backoff.after_failure().max(failure.retry_after());
                tokio::time::sleep(wait).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Only the metadata are asked for, which is most often a small part of a pod.
async fn ask(client: &Client, pod: &PodId, silence: Duration) -> Outcome {
    let PodId { name, .. } = pod;
    let pods = format!("/api/v1/namespaces/{}/pods", name.namespace);
    let request = Request::new(pods).get_metadata(&name.name, &GetParams::default());
    let request = request.map_err(|error| Failure::Broken(error.to_string()))?;
    match Answer::to(client, request, silence).await {
        // It has ended.
        Err(Failure::Refused { code: 404, .. }) => Ok(None),
        answer => {
            let metadata = wire::metadata(&answer?.whole().await?)?;
            Ok(PodEnd::of(pod, &metadata))
        }
    }
}

fn denial(
    address: &str,
    message: &str,
    namespaces: &BTreeSet<Arc<str>>,
    namespace: &str,
) -> Report {
    let grant = if namespaces.is_empty() {
        "a ClusterRole".to_owned()
    } else {
        format!("a Role in namespace {namespace}")
    };
    Report {
        subject: Subject::Read("pods"),
        severity: Severity::Warning,
        reason: Reason::AccessDenied,
        field: String::new(),
        message: format!(
            "the API server at {address} does not allow it (status 403: {message}), so WebSockets of \
             terminating pods are closed over connectionDrain.podTimeout, or 25s, whatever time \
             their pods have; grant the service account the verb get on pods of the core API group \
             (\"\") by {grant}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::cluster::ApiServer;
    use crate::world::{Metadata, ObjectKey, Scope};

    fn reader(namespaces: &[String]) -> PodReader {
        let server = ApiServer::at("http://192.0.2.1").unwrap();
        let client = server.client().unwrap();
        PodReader::new(client, Pace::default(), server.address(), namespaces)
    }

    fn pods(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| format!("pod-{number}")).collect()
    }

    fn slice(namespace: &str, name: &str, pods: &[String]) -> Object {
        let endpoints: Vec<_> = pods
            .iter()
            .map(|pod| {
                serde_json::json!({
                    "addresses": ["192.0.2.2"],
                    "conditions": {"terminating": true},
                    "targetRef": {"kind": "Pod", "name": pod},
                })
            })
            .collect();
        let slice: k8s_openapi::api::discovery::v1::EndpointSlice =
            serde_json::from_value(serde_json::json!({
                "metadata": {
                    "namespace": namespace,
                    "name": name,
                    "labels": {"kubernetes.io/service-name": "chat"},
                },
                "addressType": "IPv4",
                "endpoints": endpoints,
            }))
            .unwrap();
        slice.into()
    }

    #[tokio::test]
    async fn so_many_pods_are_known_and_no_more_and_those_that_are_gone_make_room() {
        let mut reader = reader(&[]);
        for number in 0..11 {
            let pods = pods(number * 1000..(number + 1) * 1000);
            reader.note(&Delta::Apply(slice("a", &number.to_string(), &pods)));
        }
        assert_eq!((reader.pods.len(), reader.waiting.len()), (PODS, PODS));
        let Object::EndpointSlice(first) = slice("a", "0", &[]) else {
            return;
        };
        let Metadata { name, .. } = &first.meta;
        reader.note(&Delta::Delete(ObjectKey::new(
            Kind::EndpointSlice,
            name.clone(),
        )));
        assert_eq!(reader.pods.len(), PODS - 1000);
        reader.note(&Delta::Apply(slice("a", "10", &pods(10_000..11_000))));
        assert_eq!((reader.pods.len(), reader.waiting.len()), (PODS, PODS));
        let scope = Scope::from(Kind::EndpointSlice);
        let list = vec![slice("a", "10", &pods(10_998..11_000))];
        reader.note(&Delta::Reset(scope, list, Vec::new()));
        let held: Vec<&str> = reader.waiting.iter().map(|pod| &*pod.name.name).collect();
        assert_eq!(held, ["pod-10998", "pod-10999"]);
        assert_eq!((reader.pods.len(), reader.slices.len()), (2, 1));
    }

    #[tokio::test]
    async fn a_pod_of_two_slices_is_known_until_both_let_go_of_it() {
        let mut reader = reader(&[]);
        for name in ["one", "two", "two"] {
            reader.note(&Delta::Apply(slice("a", name, &pods(0..1))));
        }
        reader.note(&Delta::Apply(slice("a", "one", &[])));
        assert_eq!(reader.pods.len(), 1);
        reader.note(&Delta::Apply(slice("a", "two", &[])));
        assert!(reader.pods.is_empty() && reader.waiting.is_empty() && reader.slices.is_empty());
    }

    /// In its own namespace it sees Services and EndpointSlices, and may not ask for pods.
    #[tokio::test]
    async fn only_pods_of_watched_namespaces_are_asked_for() {
        let mut reader = reader(&["a".to_owned()]);
        reader.note(&Delta::Apply(slice("own", "one", &pods(0..1))));
        assert!(reader.waiting.is_empty());
        reader.note(&Delta::Apply(slice("a", "one", &pods(0..1))));
        assert_eq!(reader.waiting.len(), 1);
    }
}
