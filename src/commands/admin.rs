//! Questions to the admin port of a running process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

/// How long a running process may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

/// Asks for JSON.
///
/// # Errors
/// A process that does not answer, or refuses; with what it says.
pub(super) fn ask(
    method: Method,
    admin: SocketAddr,
    path: &str,
    parameters: &[(&'static str, String)],
) -> anyhow::Result<Value> {
    let method = match method {
        Method::Get => "GET",
        Method::Post => "POST",
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    let query = query.finish();
    let mark = if query.is_empty() { "" } else { "?" };
    let answer = (|| {
        let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // HTTP/1.0: the answer ends with the connection, so nothing needs to be parsed.
        write!(
            stream,
            "{method} {path}{mark}{query} HTTP/1.0\r\nHost: {admin}\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })()
    .with_context(|| format!("cannot ask the admin port {admin}; is Holdfast running there?"))?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => serde_json::from_str(body).context("the answer is not JSON"),
        Some("400" | "403") => bail!("the admin port {admin} refuses: {}", body.trim()),
        _ => bail!("the admin port {admin} answers {status}"),
    }
}
