//! Connections of `openssl s_client` and `gnutls-cli`, which change keys at a word.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use holdfast::tls::server::accept;
use rustls::{ServerConfig, SupportedCipherSuite};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::wire::{Ends, suites};

const LIMIT: Duration = Duration::from_secs(60);

/// Answers each line with the same line, at the end of the connection says what the end was.
async fn echo(listener: TcpListener, config: Arc<ServerConfig>) -> Result<(), std::io::Error> {
    let (tcp, _) = listener.accept().await?;
    let stream = accept(&config.into(), tcp, LIMIT).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&line).await?;
        stream.flush().await?;
    }
}

/// A program that is a client of an echo.
struct Client {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    seen: Vec<u8>,
    server: JoinHandle<Result<(), std::io::Error>>,
}

impl Client {
    async fn start(config: Arc<ServerConfig>, command: impl FnOnce(u16) -> Command) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(echo(listener, config));
        let mut process = command(port)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("scripts/install-test-deps.sh installs it");
        Self {
            input: process.stdin.take().unwrap(),
            output: process.stdout.take().unwrap(),
            seen: Vec::new(),
            process,
            server,
        }
    }

    async fn type_in(&mut self, line: &str) {
        self.input.write_all(line.as_bytes()).await.unwrap();
        self.input.flush().await.unwrap();
    }

    /// Waits until it has printed this.
    async fn sees(&mut self, text: &str) {
        loop {
            let at = self
                .seen
                .windows(text.len())
                .position(|seen| seen == text.as_bytes());
            if let Some(at) = at {
                self.seen.drain(..at + text.len());
                return;
            }
            let read = self.output.read_buf(&mut self.seen).await.unwrap();
            assert!(
                read > 0,
                "no {text:?} in {:?}",
                String::from_utf8_lossy(&self.seen)
            );
        }
    }

    async fn echoes(&mut self, text: &str) {
        self.type_in(&format!("{text}\n")).await;
        self.sees(text).await;
    }

    async fn end(mut self) -> Result<(), std::io::Error> {
        drop(self.input);
        self.process.wait().await.unwrap();
        self.server.await.unwrap()
    }
}

async fn within<F: Future<Output = ()>>(what: F) {
    tokio::time::timeout(LIMIT, what).await.unwrap();
}

fn s_client(port: u16, option: &str) -> Command {
    // What it does at a word it says on its standard error.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!(
            "exec openssl s_client -connect 127.0.0.1:{port} -servername records.example \
             {option} -brief 2>&1"
        ),
    ]);
    command
}

fn option(suite: &SupportedCipherSuite) -> &'static str {
    match suite.tls13() {
        Some(_) => "-tls1_3",
        None => "-tls1_2",
    }
}

#[tokio::test]
async fn openssl_speaks_every_suite_and_changes_keys() {
    within(async {
        for suite in suites() {
            let option = option(&suite);
            let server = Ends::of(suite).server;
            let mut client = Client::start(server, |port| s_client(port, option)).await;
            client.echoes("first").await;
            if suite.tls13().is_some() {
                for round in 0..5 {
                    // Its own keys.
                    client.type_in("k\n").await;
                    client.sees("KEYUPDATE").await;
                    client.echoes(&format!("{round} after its own")).await;
                    // Its own, and it asks for ours.
                    client.type_in("K\n").await;
                    client.sees("KEYUPDATE").await;
                    client.echoes(&format!("{round} after both")).await;
                }
            }
            client.echoes(&"long ".repeat(3_000)).await;
            client.type_in("Q\n").await;
            client.end().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn openssl_may_not_renegotiate() {
    within(async {
        let server = Ends::new(&rustls::version::TLS12).server;
        let mut client = Client::start(server, |port| s_client(port, "-tls1_2")).await;
        client.echoes("first").await;
        client.type_in("R\n").await;
        client.sees("RENEGOTIATING").await;
        let error = client.end().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    })
    .await;
}

fn gnutls(port: u16, priority: &str) -> Command {
    let mut command = Command::new("gnutls-cli");
    command
        .args(["--insecure", "--port", &port.to_string(), "127.0.0.1"])
        .args(["--sni-hostname", "records.example", "--inline-commands"])
        .args(["--priority", priority]);
    command
}

fn priority(suite: &SupportedCipherSuite) -> String {
    let version = if suite.tls13().is_some() {
        "1.3"
    } else {
        "1.2"
    };
    let name = format!("{:?}", suite.suite());
    let cipher = ["AES_128_GCM", "AES_256_GCM", "CHACHA20_POLY1305"]
        .into_iter()
        .find(|cipher| name.contains(cipher))
        .unwrap()
        .replace('_', "-");
    format!("NORMAL:-VERS-ALL:+VERS-TLS{version}:-CIPHER-ALL:+{cipher}")
}

#[tokio::test]
async fn gnutls_speaks_every_suite_and_changes_keys() {
    within(async {
        for suite in suites() {
            let priority = priority(&suite);
            let server = Ends::of(suite).server;
            let mut client = Client::start(server, |port| gnutls(port, &priority)).await;
            client.echoes("first").await;
            if suite.tls13().is_some() {
                for round in 0..5 {
                    // It asks for ours, too.
                    client.type_in("^rekey^\n").await;
                    client.echoes(&format!("{round} after both")).await;
                }
            }
            client.echoes(&"long ".repeat(500)).await;
            client.end().await.unwrap();
        }
    })
    .await;
}
