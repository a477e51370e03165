//! TLS with pods.

use std::sync::{Arc, Mutex};

use crate::answers::assert_ours;
use crate::fixture::{get, within};
use crate::harness::{EDGE, Holdfast, ingress, service};
use crate::pod::{OK, Pod};
use crate::tls::pair;
use crate::wire::Kind;

#[tokio::test]
async fn pods_that_speak_tls_are_spoken_to_in_tls() {
    within(async {
        for protocol in ["https", "kubernetes.io/wss"] {
            let names = Arc::new(Mutex::new(Vec::new()));
            let mut server = Arc::unwrap_or_clone(pair(&["pod.example"]).server());
            let resolver = Arc::clone(&server.cert_resolver);
            server.cert_resolver = Arc::new(Recorder(resolver, Arc::clone(&names)));
            let pod = Pod::serving_tls(Arc::new(server), |mut wire, _| async move {
                while wire.message(Kind::Request).await.is_ok() {
                    wire.send(OK).await;
                }
            })
            .await;
            let holdfast = Holdfast::start(&[
                ("edge.yaml", EDGE),
                ("app.yaml", &service("app", protocol, &[pod.address])),
                ("ingress.yaml", &ingress("app", "app.example", "app")),
            ])
            .await;
            let mut client = holdfast.client().await;
            for _ in 0..3 {
                assert_eq!(client.ask(get("/")).await.text(), "ok");
            }
            assert_eq!(pod.connections(), 1);
            assert_eq!(*names.lock().unwrap(), [Some("app.example".to_owned())]);
        }
    })
    .await;
}

#[derive(Debug)]
struct Recorder(
    Arc<dyn rustls::server::ResolvesServerCert>,
    Arc<Mutex<Vec<Option<String>>>>,
);

impl rustls::server::ResolvesServerCert for Recorder {
    fn resolve(
        &self,
        hello: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.1
            .lock()
            .unwrap()
            .push(hello.server_name().map(str::to_owned));
        self.0.resolve(hello)
    }
}

#[tokio::test]
async fn a_pod_that_does_not_speak_the_tls_it_should_is_502() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("app.yaml", &service("app", "https", &[pod.address])),
            ("ingress.yaml", &ingress("app", "app.example", "app")),
        ])
        .await;
        // Nobody listens there any more.
        drop(pod);
        let answer = holdfast.client().await.ask(get("/")).await;
        assert_ours(&answer, 502, "pod_connect_failed");
        let echo = Pod::serving(|mut wire, _| async move {
            wire.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        })
        .await;
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("app.yaml", &service("app", "https", &[echo.address])),
            ("ingress.yaml", &ingress("app", "app.example", "app")),
        ])
        .await;
        let answer = holdfast.client().await.ask(get("/")).await;
        assert_ours(&answer, 502, "pod_connect_failed");
    })
    .await;
}
