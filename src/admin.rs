//! Health, metrics and JSON for operators, on a port of their own.
//!
//! ```text
//! probe, Prometheus, operator ─▶ Admin ─▶ Handles ─▶ closures that app made
//!                                  ├ few connections, short deadlines
//!                                  └ GET and HEAD; POST of actions, from this machine only
//! ```
//!
//! It owns nothing: `app` hands in closures that read what others hold, and the few that change it.

mod handles;
mod server;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use tokio_util::sync::CancellationToken;

pub use handles::{Handles, Query, Readiness};

/// The admin port, bound.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds the port; port 0 lets the system choose. `[::]` is every address, and where the machine
    /// has no IPv6 every address of IPv4. Nothing is answered before [`Admin::serve`].
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let in_words = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("the admin port cannot listen on {address}: {error}"),
            )
        };
        let listener = TcpListener::bind(address)
            .or_else(|error| {
                let is_every_address = address.ip() == Ipv6Addr::UNSPECIFIED;
                if is_every_address && error.kind() != io::ErrorKind::AddrInUse {
                    return TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()));
                }
                Err(error)
            })
            .map_err(in_words)?;
        listener.set_nonblocking(true).map_err(in_words)?;
        let address = listener.local_addr().map_err(in_words)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled, then lets requests under way finish for at most 3 s.
    ///
    /// Cancel it last: while the proxy drains, `/readyz` has to say so.
    pub async fn serve(self, handles: Handles, shutdown: CancellationToken) {
        match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => server::serve(listener, handles, shutdown).await,
            Err(error) => tracing::error!(%error, "the admin port cannot be served"),
        }
    }
}
