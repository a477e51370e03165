//! TLS with clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast::routing::Certificate;
use holdfast::routing::certificate::CertificateTable;
use holdfast::tls::server::provider;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{front, front_with, get, within};
use crate::harness::{EDGE, Holdfast, ingress, service};
use crate::pod::{OK, Pod};
use crate::tls_client::TlsClient;
use crate::wire::Wire;

/// A certificate with its key.
pub struct Pair {
    pub certificate: CertificateDer<'static>,
    pub key: rcgen::KeyPair,
}

pub fn pair(names: &[&str]) -> Pair {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Pair {
        certificate: certificate.der().clone(),
        key,
    }
}

impl Pair {
    pub fn secret(&self, namespace: &str, name: &str) -> String {
        let body = STANDARD.encode(&self.certificate);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             type: kubernetes.io/tls\ndata: {{tls.crt: {}, tls.key: {}}}\n",
            STANDARD.encode(pem),
            STANDARD.encode(self.key.serialize_pem())
        )
    }

    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        let key = rustls_pki_types::PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

/// An Ingress of `app` for a host with a certificate.
fn secured(name: &str, host: &str, secret: &str) -> String {
    ingress(name, host, "app").replace(
        "  rules:\n",
        &format!("  tls: [{{hosts: [\"{host}\"], secretName: {secret}}}]\n  rules:\n"),
    )
}

#[tokio::test]
async fn the_certificate_is_chosen_by_server_name() {
    within(async {
        let exact = pair(&["app.example"]);
        let wildcard = pair(&["*.example"]);
        let default = pair(&["edge.test"]);
        let second = pair(&["second.test", "*.second.test"]);
        let edge = EDGE.replace(
            "protocol: HTTPS}",
            "protocol: HTTPS, tls: {certificateRefs: [{name: default}, {name: second}]}}",
        );
        let pod = Pod::answering(OK).await;
        let holdfast = Holdfast::start(&[
            ("edge.yaml", &edge),
            ("default.yaml", &default.secret("edge", "default")),
            ("second.yaml", &second.secret("edge", "second")),
            ("exact.yaml", &exact.secret("default", "exact")),
            ("wildcard.yaml", &wildcard.secret("default", "wildcard")),
            ("app.yaml", &service("app", "", &[pod.address])),
            ("a.yaml", &secured("a", "app.example", "exact")),
            ("b.yaml", &secured("b", "*.example", "wildcard")),
        ])
        .await;
        let client = TlsClient::new(&[]);
        for (name, expected) in [
            ("app.example", &exact),
            ("APP.Example", &exact),
            ("other.example", &wildcard),
            ("a.b.example", &default),
            ("example", &default),
            ("edge.test", &default),
            ("127.0.0.1", &default),
            ("second.test", &second),
            ("a.second.test", &second),
        ] {
            assert_eq!(
                client.presented(&holdfast, name).await,
                expected.certificate,
                "{name}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_certificate_a_self_signed_one_is_presented() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let client = TlsClient::new(&[]);
        let one = client.presented(&holdfast, "app.example").await;
        assert_eq!(client.presented(&holdfast, "127.0.0.1").await, one);
        let stream = client
            .connect(holdfast.address("https"), "app.example")
            .await;
        let mut wire = Wire::new(stream);
        assert_eq!(wire.ask(get("/")).await.text(), "ok");
        let request = pod.request().await;
        assert_eq!(request.field("x-forwarded-proto"), Some("https"));
        assert_eq!(request.field("x-forwarded-port"), Some("443"));
    })
    .await;
}

#[tokio::test]
async fn a_changed_secret_serves_the_next_handshake_and_ends_no_connection() {
    within(async {
        let (old, new) = (pair(&["app.example"]), pair(&["app.example"]));
        let pod = Pod::answering(OK).await;
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("secret.yaml", &old.secret("default", "cert")),
            ("app.yaml", &service("app", "", &[pod.address])),
            ("a.yaml", &secured("a", "app.example", "cert")),
        ])
        .await;
        let client = TlsClient::new(&[]);
        let open = client
            .connect(holdfast.address("https"), "app.example")
            .await;
        let mut open = Wire::new(open);
        assert_eq!(open.ask(get("/")).await.text(), "ok");
        holdfast
            .write("secret.yaml", &new.secret("default", "cert"))
            .await;
        // A client without a session of before.
        let other = TlsClient::new(&[]);
        assert_eq!(
            other.presented(&holdfast, "app.example").await,
            new.certificate
        );
        assert_eq!(open.ask(get("/")).await.text(), "ok");
    })
    .await;
}

#[tokio::test]
async fn both_versions_are_spoken_and_sessions_resumed() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = TlsClient::of(&["http/1.1"], &[version]);
            let mut kinds = Vec::new();
            for _ in 0..3 {
                let mut stream = client
                    .connect(holdfast.address("https"), "app.example")
                    .await;
                assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
                // TLS 1.3 sends its ticket behind the handshake.
                let close = get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
                stream.write_all(close.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
                kinds.push(stream.get_ref().1.handshake_kind().unwrap());
            }
            use rustls::HandshakeKind::{Full, Resumed};
            assert_eq!(kinds, [Full, Resumed, Resumed], "{version:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn other_implementations_get_through() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let address = holdfast.address("https").to_string();
        for version in ["-tls1_2", "-tls1_3"] {
            let mut openssl = tokio::process::Command::new("openssl");
            openssl.args([
                "s_client",
                "-connect",
                &address,
                "-servername",
                "app.example",
            ]);
            openssl.args([version, "-alpn", "http/1.1", "-quiet", "-ign_eof"]);
            openssl.stdin(std::process::Stdio::piped());
            openssl.stdout(std::process::Stdio::piped());
            openssl
                .stderr(std::process::Stdio::null())
                .kill_on_drop(true);
            let Ok(mut child) = openssl.spawn() else {
                return; // Not installed here.
            };
            let mut stdin = child.stdin.take().unwrap();
            let bytes = get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            stdin.write_all(bytes.as_bytes()).await.unwrap();
            let output = child.wait_with_output().await.unwrap();
            let output = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.ends_with("\r\n\r\nok"), "{version}: {output}");
            drop(stdin);
        }
    })
    .await;
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    within(async {
        let holdfast = front(&[]).await;
        // A ClientHello of TLS 1.1.
        let hello = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x02\
            0123456789abcdef0123456789abcdef\x00\x00\x02\x00\x2f\x01\x00";
        let mut client = Wire::new(TcpStream::connect(holdfast.address("https")).await.unwrap());
        client.send(hello).await;
        let alert = client.end().await.rest;
        assert_eq!(alert.first(), Some(&21), "an alert: {alert:?}");
    })
    .await;
}

#[tokio::test]
async fn plain_http_on_the_https_port_ends_cleanly() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let mut client = Wire::new(TcpStream::connect(holdfast.address("https")).await.unwrap());
        client.send(get("/")).await;
        let ended = client.end().await;
        assert!(!ended.reset, "{ended:?}");
        assert_eq!(pod.bytes(), "");
        // The listener goes on.
        let stream = TlsClient::new(&[])
            .connect(holdfast.address("https"), "app.example")
            .await;
        assert_eq!(Wire::new(stream).ask(get("/")).await.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn the_end_of_a_connection_is_announced() {
    within(async {
        let pod = Pod::answering(OK).await;
        let edge = crate::fixture::edge(", timeouts: {idle: 1s}");
        let holdfast = front_with(&edge, &[pod.address]).await;
        let client = TlsClient::new(&["http/1.1"]);
        // rustls makes an error of an end without close_notify.
        let close = get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        for bytes in [Some(close), Some(get("/")), None] {
            let stream = client
                .connect(holdfast.address("https"), "app.example")
                .await;
            let mut wire = Wire::new(stream);
            if let Some(bytes) = &bytes {
                assert_eq!(wire.ask(bytes).await.status(), 200);
            }
            let ended = wire.end().await;
            assert!(!ended.reset, "{bytes:?}: {ended:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn keys_are_never_shown() {
    within(async {
        let pair = pair(&["app.example"]);
        let secret = pair.secret("default", "cert");
        let pod = Pod::answering(OK).await;
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("secret.yaml", &secret),
            ("app.yaml", &service("app", "", &[pod.address])),
            ("a.yaml", &secured("a", "app.example", "cert")),
        ])
        .await;
        let client = TlsClient::new(&[]);
        assert_eq!(
            client.presented(&holdfast, "app.example").await,
            pair.certificate
        );
        // A second Secret with the key where it cannot be used, so that findings speak of it.
        let broken = secret
            .replace("tls.crt: ", "tls.crt: AAAA")
            .replace("cert,", "broken,");
        holdfast.write("broken.yaml", &broken).await;
        holdfast
            .write("b.yaml", &secured("b", "b.example", "broken"))
            .await;
        let mut shown = format!("{:?} {:?}", holdfast.app, holdfast.app.reports());
        // What carries key material, as a log line would show it.
        let certified = rustls::sign::CertifiedKey::new(
            vec![pair.certificate.clone()],
            provider()
                .key_provider
                .load_private_key(pair.key.serialize_der().try_into().unwrap())
                .unwrap(),
        );
        let certificate = Arc::new(Certificate::new([7; 32], Arc::new(certified)));
        let table = CertificateTable {
            default: Some(Arc::clone(&certificate)),
            ..CertificateTable::default()
        };
        shown += &format!("{certificate:?} {table:?}");
        let held = holdfast::world::object::Secret {
            meta: holdfast::world::object::Metadata {
                name: holdfast::world::ObjectName::new("default", "held"),
                created: 0,
                generation: 0,
                uid: 0,
                is_deleting: false,
                annotations: BTreeMap::new(),
            },
            secret_type: "kubernetes.io/tls".to_owned(),
            certificate: None,
            key: Some(pair.key.serialize_pem().into_bytes()),
        };
        shown += &format!("{held:?}");
        let first: Vec<String> = pair
            .key
            .serialize_pem()
            .bytes()
            .take(8)
            .map(|b| b.to_string())
            .collect();
        assert!(!shown.contains(&first.join(", ")));
        let admin = holdfast.app.admin_address().unwrap();
        for path in [
            "/",
            "/routes",
            "/findings",
            "/metrics",
            "/tunnels",
            "/readyz",
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let mut wire = Wire::new(TcpStream::connect(admin).await.unwrap());
            wire.send(request).await;
            shown += &String::from_utf8_lossy(&wire.end().await.rest);
        }
        assert!(
            shown.contains("default/broken"),
            "the findings are shown: {shown}"
        );
        let der = pair.key.serialize_der();
        let pem = pair.key.serialize_pem();
        let line = pem.lines().nth(1).unwrap();
        let bytes = |length: usize| format!("{:?}", &der[der.len() - length..]);
        let bytes = bytes(8);
        for secret in [line, "PRIVATE KEY", bytes.trim_matches(['[', ']'])] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert!(!shown.contains(&STANDARD.encode(&pem)));
    })
    .await;
}
