//! Pods that record every byte and answer as they are told, right or wrong.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::wire::{Kind, Message, Stream, Wire};

/// A listening pod; it goes when this is dropped.
pub struct Pod {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>,
    task: JoinHandle<()>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Pod {
    /// Answers each whole request with these bytes.
    pub async fn answering(bytes: impl AsRef<[u8]>) -> Self {
        let bytes: Arc<[u8]> = bytes.as_ref().into();
        Self::serving(move |mut wire, _| {
            let bytes = Arc::clone(&bytes);
            async move {
                while wire.message(Kind::Request).await.is_ok() {
                    wire.send(&bytes).await;
                }
            }
        })
        .await
    }

    /// Answers each whole request with these bytes and closes the connection.
    pub async fn answering_once(bytes: impl AsRef<[u8]>) -> Self {
        let bytes: Arc<[u8]> = bytes.as_ref().into();
        Self::serving(move |mut wire, _| {
            let bytes = Arc::clone(&bytes);
            async move {
                if wire.message(Kind::Request).await.is_ok() {
                    wire.send(&bytes).await;
                }
            }
        })
        .await
    }

    /// Runs `serve` with each connection and its number.
    pub async fn serving<F, S>(serve: F) -> Self
    where
        F: Fn(Wire, usize) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        Self::start(None, serve).await
    }

    /// The same over TLS.
    pub async fn serving_tls<F, S>(tls: Arc<rustls::ServerConfig>, serve: F) -> Self
    where
        F: Fn(Wire, usize) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        Self::start(Some(TlsAcceptor::from(tls)), serve).await
    }

    async fn start<F, S>(tls: Option<TlsAcceptor>, serve: F) -> Self
    where
        F: Fn(Wire, usize) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>> = Arc::default();
        let log = Arc::clone(&connections);
        let serve = Arc::new(serve);
        let task = tokio::spawn(async move {
            // Its connections go with it.
            let mut tasks = JoinSet::new();
            let mut number = 0;
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (serve, log, tls) = (Arc::clone(&serve), Arc::clone(&log), tls.clone());
                tasks.spawn(async move {
                    let stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(tls) => Box::new(tls.accept(stream).await.unwrap()),
                    };
                    let wire = Wire::new(stream);
                    log.lock().unwrap().push(Arc::clone(&wire.seen));
                    serve(wire, number).await;
                });
                number += 1;
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    /// How many connections it has taken.
    pub fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// Every byte that came, over all connections.
    pub fn bytes(&self) -> String {
        let mut all = Vec::new();
        for connection in self.connections.lock().unwrap().iter() {
            all.extend_from_slice(&connection.lock().unwrap());
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    /// The one request that came.
    pub async fn request(&self) -> Message {
        let bytes = self.bytes();
        let mut wire = Wire::new(std::io::Cursor::new(bytes.into_bytes()));
        let request = wire.message(Kind::Request).await.unwrap();
        let rest = wire.end().await.rest;
        assert_eq!(String::from_utf8_lossy(&rest), "", "after {}", request.head);
        request
    }
}
