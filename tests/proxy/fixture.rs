//! What most tests of HTTP start from.

use std::fmt::Write;
use std::future::Future;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::harness::{EDGE, Holdfast, LIMIT, ingress, service};
use crate::wire::Wire;

/// Ends a test that hangs.
pub async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, test).await.expect("in time")
}

/// `app.example` on both listeners, served by these pods.
pub async fn front(pods: &[SocketAddr]) -> Holdfast {
    front_with(EDGE, pods).await
}

/// The same with listeners of one's own; see [`edge`].
pub async fn front_with(edge: &str, pods: &[SocketAddr]) -> Holdfast {
    Holdfast::start(&[
        ("edge.yaml", edge),
        ("app.yaml", &service("app", "", pods)),
        ("ingress.yaml", &ingress("app", "app.example", "app")),
    ])
    .await
}

/// [`EDGE`] with more fields (`, name: value`) on both listeners.
pub fn edge(more: &str) -> String {
    EDGE.replace("protocol: HTTP}", &format!("protocol: HTTP{more}}}"))
        .replace("protocol: HTTPS}", &format!("protocol: HTTPS{more}}}"))
}

/// [`EDGE`] with more fields of `spec`, as lines indented by two.
pub fn edge_with_spec(more: &str) -> String {
    EDGE.replace("  exposure: Host\n", &format!("  exposure: Host\n{more}"))
}

impl Holdfast {
    /// A client of the listener `http`.
    pub async fn client(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address("http")).await.unwrap())
    }
}

/// A GET of `app.example`.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n")
}

/// A request of `app.example` with more fields (whole lines) and a body.
pub fn request(line: &str, fields: &[&str], body: &str) -> String {
    let mut request = format!("{line} HTTP/1.1\r\nHost: app.example\r\n");
    for field in fields {
        write!(request, "{field}\r\n").unwrap();
    }
    request.push_str("\r\n");
    request.push_str(body);
    request
}
