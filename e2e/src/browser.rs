//! A real browser: Chromium without a window, spoken to over its DevTools protocol.
//!
//! ```text
//! chromium --headless ─▶ page ─▶ the address under test
//!     ▲ DevTools: a WebSocket on a loopback port that Chromium writes into its profile
//! Browser ─ Runtime.evaluate ─▶ what the page says
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::client::{Received, Socket, Visitor};
use crate::cluster::{items, text};
use crate::patience::{eventually, within};

/// Chromium may be slow to start on a busy machine.
const START: Duration = Duration::from_secs(40);
const ANSWER: Duration = Duration::from_secs(10);

/// A browser with one page. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Browser {
    devtools: Socket,
    calls: u64,
    _process: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens a page; `host` means `address`, and any certificate will do.
    ///
    /// # Errors
    ///
    /// When Chromium does not start.
    pub(crate) async fn open(url: &str, host: &str, address: IpAddr) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let process = start(url, host, address, profile.path())?;
        let devtools = eventually("Chromium has a page", START, async || {
            let file = std::fs::read_to_string(profile.path().join("DevToolsActivePort"))?;
            let port = file.lines().next().context("the file is empty")?.parse()?;
            let client = Visitor::http(IpAddr::V4(Ipv4Addr::LOCALHOST)).port(port);
            let pages: Value = serde_json::from_slice(&client.get("/json/list").await?.body)?;
            let page = items(&pages, "")
                .iter()
                .find(|page| text(page, "/type") == "page")
                .context("there is no page yet")?;
            let path = format!("/devtools/page/{}", text(page, "/id"));
            client.websocket(&path).await
        })
        .await?;
        Ok(Self {
            devtools,
            calls: 0,
            _process: process,
            _profile: profile,
        })
    }

    /// The value of an expression in the page.
    ///
    /// # Errors
    ///
    /// What the page throws.
    pub(crate) async fn evaluate(&mut self, expression: &str) -> Result<Value> {
        self.calls += 1;
        let id = self.calls;
        let call = json!({
            "id": id,
            "method": "Runtime.evaluate",
            "params": {"expression": expression, "returnByValue": true},
        });
        self.devtools.send_text(&call.to_string()).await?;
        within("the browser answers", ANSWER, async {
            loop {
                let Received::Text(answer) = self.devtools.next().await? else {
                    bail!("the browser does not speak its protocol");
                };
                let answer: Value = serde_json::from_str(&answer)?;
                if answer.pointer("/id") != Some(&json!(id)) {
                    continue;
                }
                if answer.pointer("/result/exceptionDetails").is_some() {
                    bail!("{expression}: {answer}");
                }
                let value = answer.pointer("/result/result/value");
                return Ok(value.cloned().unwrap_or_default());
            }
        })
        .await
    }
}

fn start(url: &str, host: &str, address: IpAddr, profile: &Path) -> Result<Child> {
    Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
            "--remote-debugging-port=0",
        ])
        .arg(format!("--host-resolver-rules=MAP {host} {address}"))
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("starting chromium; scripts/install-test-deps.sh installs it")
}
