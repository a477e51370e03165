//! The way to the end.
//!
//! ```text
//! signal ─▶ lame: readiness fails, accepting goes on   (delay: load balancers take notice);
//!            answers over HTTP/1.1 are the last of their connections
//!        ─▶ draining: no more accepting; requests finish, tunnels are closed over the window
//!        ─▶ forced: what is left is cut                 (a few seconds after the window)
//! second signal ─▶ exit at once
//! ```

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// For how long connections are accepted after the signal. Kube-proxies and cloud load
    /// balancers still send some.
    pub delay: Duration,
    /// Over which WebSockets are closed, evenly, so that their clients do not all reconnect at
    /// once (P5).
    pub drain: Duration,
    /// After the window, for requests and closing handshakes to finish.
    pub grace: Duration,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            drain: Duration::from_secs(20),
            grace: Duration::from_secs(10),
        }
    }
}

/// What phase the process is in.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// The process is to end: it says that it is not ready.
    pub begun: CancellationToken,
    /// What is left is cut.
    pub forced: CancellationToken,
}

/// SIGTERM (Kubernetes) and SIGINT (Ctrl-C).
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from their default, which is to die.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
