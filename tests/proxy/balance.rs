//! How requests are spread over pods and backends.

use crate::fixture::{edge_with_spec, front, get, within};
use crate::harness::{EDGE, Holdfast, ingress, service, slice, soon};
use crate::pod::{OK, Pod};
use crate::wire::Kind;

async fn pods(count: usize) -> Vec<Pod> {
    let mut pods = Vec::new();
    for _ in 0..count {
        pods.push(Pod::answering(OK).await);
    }
    pods
}

fn requests(pod: &Pod) -> usize {
    pod.bytes().matches("GET / HTTP/1.1").count()
}

#[tokio::test]
async fn all_pods_of_a_service_take_turns() {
    within(async {
        let pods = pods(10).await;
        let addresses: Vec<_> = pods.iter().map(|pod| pod.address).collect();
        let holdfast = front(&addresses).await;
        let mut client = holdfast.client().await;
        for _ in 0..100 {
            assert_eq!(client.ask(get("/")).await.status(), 200);
        }
        for pod in &pods {
            let share = requests(pod);
            assert!((8..=12).contains(&share), "{share} of 100");
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_pod_gets_less() {
    within(async {
        let slow = Pod::serving(|mut wire, _| async move {
            wire.message(Kind::Request).await.unwrap();
            wire.end().await;
        })
        .await;
        let quick = Pod::answering(OK).await;
        let holdfast = front(&[slow.address, quick.address]).await;
        // Held open by the slow pod.
        let mut waiting = Vec::new();
        while slow.connections() == 0 {
            let mut client = holdfast.client().await;
            client.send(get("/")).await;
            let answered = client.message(Kind::Answer);
            let quick = tokio::time::timeout(std::time::Duration::from_millis(200), answered);
            if quick.await.is_err() {
                waiting.push(client);
            }
        }
        assert_eq!(waiting.len(), 1);
        let mut client = holdfast.client().await;
        for _ in 0..20 {
            assert_eq!(client.ask(get("/")).await.status(), 200);
        }
        assert_eq!(slow.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn backends_share_by_weight() {
    within(async {
        let pods = pods(3).await;
        let rules = "  rules:
  - hosts: [app.example]
    backends:
    - {service: {name: a, port: 80}, weight: 3}
    - {service: {name: b, port: 80}, weight: 1}
    - {service: {name: c, port: 80}, weight: 0}
";
        let in_edge = |name, pod: &Pod| {
            service(name, "", &[pod.address]).replace("namespace: default", "namespace: edge")
        };
        let holdfast = Holdfast::start(&[
            ("edge.yaml", &edge_with_spec(rules)),
            ("a.yaml", &in_edge("a", &pods[0])),
            ("b.yaml", &in_edge("b", &pods[1])),
            ("c.yaml", &in_edge("c", &pods[2])),
        ])
        .await;
        let mut client = holdfast.client().await;
        for _ in 0..800 {
            assert_eq!(client.ask(get("/")).await.status(), 200);
        }
        let (a, b, c) = (requests(&pods[0]), requests(&pods[1]), requests(&pods[2]));
        // 600 ± 6 standard deviations of a binomial distribution (12.2).
        assert!((526..=674).contains(&a), "{a}");
        assert_eq!((a + b, c), (800, 0));
    })
    .await;
}

#[tokio::test]
async fn pods_that_drain_are_used_only_when_no_other_is_ready() {
    within(async {
        const DRAINING: &str = "ready: false, serving: true, terminating: true";
        let pods = pods(2).await;
        let ready = slice("app-1", "app", pods[1].address, "ready: true");
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("app.yaml", &service("app", "", &[])),
            (
                "one.yaml",
                &slice("app-0", "app", pods[0].address, DRAINING),
            ),
            ("two.yaml", &ready),
            ("ingress.yaml", &ingress("app", "app.example", "app")),
        ])
        .await;
        let mut client = holdfast.client().await;
        for _ in 0..10 {
            assert_eq!(client.ask(get("/")).await.status(), 200);
        }
        assert_eq!((requests(&pods[0]), requests(&pods[1])), (0, 10));
        holdfast.write_only("two.yaml", &ready.replace("ready: true", "ready: false"));
        soon("the draining pod is used", || async {
            let answer = holdfast.client().await.ask(get("/")).await;
            assert_eq!(answer.status(), 200);
            (requests(&pods[0]) > 0).then_some(())
        })
        .await;
        holdfast.write_only("two.yaml", &ready);
        soon("the ready pod is used", || async {
            let before = requests(&pods[1]);
            holdfast.client().await.ask(get("/")).await;
            (requests(&pods[1]) > before).then_some(())
        })
        .await;
    })
    .await;
}
