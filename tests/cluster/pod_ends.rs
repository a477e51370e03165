//! A pod that is terminating is asked when it ends, and its WebSockets move in that time.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api_server::{ApiServer, Fault, Rule};
use crate::controller::{Controller, ingress, limited};
use crate::harness::{EDGE, service, slice, soon};
use crate::peers::{Peer, RawPod, pair};

const HOST: &str = "ws.example";

/// An EndpointSlice of one pod that is terminating.
pub fn terminating(name: &str, service: &str, address: SocketAddr, pod: &str) -> String {
    let conditions = "ready: false, serving: true, terminating: true";
    slice(name, service, address, conditions).replace(
        "endpoints: [{",
        &format!("endpoints: [{{targetRef: {{kind: Pod, namespace: default, name: {pod}}}, "),
    )
}

/// A pod that was deleted at this moment, and has so many seconds.
fn deleted(name: &str, grace: i64) -> Value {
    let end = jiff::Timestamp::now().as_second() + grace;
    let end = jiff::Timestamp::from_second(end).unwrap();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "deletionTimestamp": end.to_string(),
            "deletionGracePeriodSeconds": grace,
        },
        "spec": {"terminationGracePeriodSeconds": grace},
    })
}

/// A Service of two pods. All WebSockets are on the first, and the second would take them.
struct Stage {
    server: ApiServer,
    controller: Controller,
    pods: [RawPod; 2],
    tunnels: Vec<(Peer, Peer)>,
}

impl Stage {
    async fn set(drain: &str, tunnels: usize) -> Self {
        let server = ApiServer::start().await;
        server.put_yaml(&EDGE.replace(
            "  exposure: Host\n",
            &format!("  exposure: Host\n  connectionDrain: {{{drain}}}\n"),
        ));
        let pods = [RawPod::start().await, RawPod::start().await];
        server.put_yaml(&service("chat", "", &[pods[0].address]));
        server.put(ingress("chat", HOST, "chat"));
        let controller = Controller::ready(&server).await;
        let mut stage = Self {
            server,
            controller,
            pods,
            tunnels: Vec::new(),
        };
        for _ in 0..tunnels {
            let http = stage.controller.http();
            let tunnel = pair(http, false, HOST, &stage.pods[0]).await;
            stage.tunnels.push(tunnel);
        }
        let second = slice("chat-1", "chat", stage.pods[1].address, "ready: true");
        stage.server.put_yaml(&second);
        stage
    }

    /// What EndpointSlices say when the first pod is deleted.
    fn terminate(&self) {
        let slice = terminating("chat-0", "chat", self.pods[0].address, "first");
        self.server.put_yaml(&slice);
    }

    fn draining(&self) -> u64 {
        let metrics = self.controller.app.metrics();
        metrics.draining.load(Ordering::Relaxed)
    }

    /// Waits until WebSockets of the first pod are to move; new ones do not wait for anything.
    async fn drains(&self) {
        soon("the drain", async || (self.draining() > 0).then_some(())).await;
        pair(self.controller.http(), false, HOST, &self.pods[1]).await;
    }

    async fn asks(&self, times: usize) {
        let what = format!("{times} GETs");
        let asked = async || (self.asked() >= times).then_some(());
        soon(&what, asked).await;
        assert_eq!(self.asked(), times);
    }

    fn asked(&self) -> usize {
        self.server.count("get", "pods")
    }

    /// How many of the first pod nobody has asked to end.
    fn staying(&self) -> usize {
        let mut staying = 0;
        self.controller.app.tunnels().visit(|_, info| {
            staying += usize::from(info.endpoint == self.pods[0].address);
        });
        staying
    }

    /// Waits until all of the first pod have been told to reconnect, and answers how long that took
    /// from the first of them to the last.
    async fn all_move(&mut self) -> Duration {
        soon("the first close", async || {
            (self.staying() < self.tunnels.len()).then_some(())
        })
        .await;
        let began = Instant::now();
        let none = async || (self.staying() == 0).then_some(());
        soon("the last close", none).await;
        let took = began.elapsed();
        for (client, _) in &mut self.tunnels {
            assert_eq!(client.close_frame().await.0, 1012);
        }
        took
    }
}

#[tokio::test]
async fn websockets_of_a_short_lived_pod_have_moved_before_it_is_killed() {
    limited(async {
        let mut stage = Stage::set("", 40).await;
        // A server that stumbles is asked again.
        stage
            .server
            .script(Rule::on("get", "pods", Fault::status(503, "etcd")).times(2));
        stage.server.put(deleted("first", 6));
        let began = Instant::now();
        stage.terminate();
        stage.drains().await;
        let took = stage.all_move().await;
        // 25 s would be the time of a pod of which nothing is known.
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "{:?}",
            began.elapsed()
        );
        assert!(took > Duration::from_secs(1), "all at once: {took:?}");
        assert_eq!(stage.asked(), 3);
        let request = stage
            .server
            .requests()
            .into_iter()
            .find(|request| request.resource == "pods")
            .unwrap();
        assert_eq!(request.uri, "/api/v1/namespaces/default/pods/first");
        assert_eq!(stage.controller.reports(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn websockets_of_a_pod_that_has_an_hour_are_in_no_hurry() {
    limited(async {
        let stage = Stage::set("timeout: 200s", 100).await;
        stage.server.put(deleted("first", 3600));
        stage.terminate();
        stage.drains().await;
        stage.asks(1).await;
        // One in 2 s, and not four a second; those may be closed that were before the answer came.
        let watched = stage.tunnels.len() - stage.staying();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let closed = stage.tunnels.len() - stage.staying() - watched;
        assert!(closed <= 3, "{closed} were closed");
        assert!(stage.draining() >= 90);
    })
    .await;
}

#[tokio::test]
async fn a_declared_time_is_the_most_whatever_a_pod_has() {
    limited(async {
        let mut stage = Stage::set("podTimeout: 700ms", 20).await;
        stage.server.put(deleted("first", 3600));
        stage.terminate();
        let took = stage.all_move().await;
        assert!(took < Duration::from_secs(2), "{took:?}");
        stage.asks(1).await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_comes_late_hurries_those_up_that_are_left() {
    limited(async {
        let mut stage = Stage::set("", 60).await;
        let late = Fault::Late(Duration::from_millis(1500));
        stage.server.script(Rule::on("get", "pods", late));
        stage.server.put(deleted("first", 6));
        let began = Instant::now();
        stage.terminate();
        // Nothing waits for the answer, which changes the plan later.
        stage.drains().await;
        assert!(began.elapsed() < Duration::from_millis(1500));
        stage.all_move().await;
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(stage.asked(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_has_no_time_left_is_left_as_fast_as_may_be() {
    limited(async {
        let mut stage = Stage::set("closesPerSecond: 1000", 40).await;
        let mut gone = deleted("first", 30);
        gone["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        stage.server.put(gone);
        stage.terminate();
        let took = stage.all_move().await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    })
    .await;
}

#[tokio::test]
async fn what_may_not_be_asked_is_told_once_and_changes_nothing_else() {
    limited(async {
        let stage = Stage::set("", 50).await;
        let forbidden = r#"pods "first" is forbidden"#;
        stage
            .server
            .script(Rule::on("get", "pods", Fault::status(403, forbidden)));
        stage.terminate();
        stage.drains().await;
        let report = stage.controller.reported(&["reading pods"]).await;
        assert!(report.starts_with("warning: "), "{report}");
        for words in [
            forbidden,
            "grant the service account the verb get on pods of the core API group (\"\") by a \
             ClusterRole",
            "[AccessDenied]",
        ] {
            assert!(report.contains(words), "{report}");
        }
        // It drains as it always did: over 25 s.
        let closed = async || (stage.staying() < 48).then_some(());
        soon("some are closed", closed).await;
        assert_eq!(stage.asked(), 1);

        let address = "127.0.0.1:1".parse().unwrap();
        let other = terminating("other", "chat", address, "other");
        stage.server.put_yaml(&other);
        stage.asks(2).await;
        assert_eq!(stage.controller.reports(), [report]);

        stage.server.behave();
        stage.server.put(deleted("third", 3600));
        let third = terminating("third", "chat", address, "third");
        stage.server.put_yaml(&third);
        stage.controller.resolved("reading pods").await;
        stage.asks(3).await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_is_gone_or_has_left_its_name_to_another_says_nothing() {
    limited(async {
        let stage = Stage::set("", 50).await;
        stage.terminate();
        stage.drains().await;
        stage.asks(1).await;
        let closed = async || (stage.staying() < 48).then_some(());
        soon("some are closed", closed).await;

        // That pod would have to be left at once.
        stage.server.put(deleted("first", 1));
        let slice = terminating("chat-0", "chat", stage.pods[0].address, "first").replace(
            "name: first",
            "name: first, uid: 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        );
        stage.server.put_yaml(&slice);
        stage.asks(2).await;
        // The answer to this one comes after it.
        let address = "127.0.0.1:1".parse().unwrap();
        let barrier = terminating("barrier", "chat", address, "barrier");
        stage.server.put_yaml(&barrier);
        stage.asks(3).await;
        let closed = async || (stage.staying() < 45).then_some(());
        soon("some more are closed", closed).await;
        assert!(stage.staying() > 20);
        assert_eq!(stage.controller.reports(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_pod_is_asked_once_for_as_long_as_it_is_named() {
    limited(async {
        let stage = Stage::set("", 1).await;
        stage.server.put(deleted("first", 3600));
        stage.terminate();
        stage.asks(1).await;
        // The same in other slices and words, after a cut and after a new list.
        let address = stage.pods[0].address;
        let silent = terminating("chat-0", "chat", address, "first")
            .replace("serving: true", "serving: false");
        stage.server.put_yaml(&silent);
        let twin = terminating("twin", "chat", address, "first");
        stage.server.put_yaml(&twin);
        stage.server.compact();
        stage.server.cut_watches();
        stage.server.remove("EndpointSlice", "default", "chat-0");
        let other = terminating("other", "chat", "127.0.0.1:1".parse().unwrap(), "other");
        stage.server.put_yaml(&other);
        stage.asks(2).await;
        let requests = stage.server.requests();
        let asked = requests.iter().filter(|request| request.resource == "pods");
        let asked: Vec<_> = asked.map(|request| request.name.as_deref()).collect();
        assert_eq!(asked, [Some("first"), Some("other")]);

        // One that is named again later may have another end.
        stage.server.remove("EndpointSlice", "default", "twin");
        stage.server.remove("EndpointSlice", "default", "other");
        stage.terminate();
        stage.asks(3).await;
    })
    .await;
}

#[tokio::test]
async fn few_are_asked_at_a_time_and_nothing_waits_for_them() {
    limited(async {
        let stage = Stage::set("", 1).await;
        stage.server.script(Rule::on("get", "pods", Fault::Hang));
        for number in 0..20 {
            let name = format!("chat-{}", number + 2);
            let address = SocketAddr::from(([127, 0, 0, 1], number + 1));
            stage
                .server
                .put_yaml(&terminating(&name, "chat", address, &name));
        }
        stage.asks(8).await;
        stage.terminate();
        stage.drains().await;
        assert_eq!(stage.asked(), 8);
    })
    .await;
}
