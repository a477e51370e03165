//! With TLS on either side, ours with the client and rustls' with the pod: what they hold back is
//! flushed, and ends are announced.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::tls;
use holdfast::websocket::{Cause, RelayConfig, Side, TunnelTable, relay};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::strict::{close, parse, write};
use crate::tcp::connection;
use crate::tunnels::info;

type Tls = TlsStream<TcpStream>;

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let own = rcgen::generate_simple_self_signed(vec!["pod.example".into()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let mut server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    server.enable_secret_extraction = true;
    (Arc::new(client), Arc::new(server))
}

/// A TLS connection: (who connected, who accepted).
async fn tls() -> (Tls, Tls) {
    let (client, server) = configs();
    let (near, far) = connection().await;
    let name = ServerName::try_from("pod.example").unwrap();
    let (near, far) = tokio::join!(
        TlsConnector::from(client).connect(name, near),
        TlsAcceptor::from(server).accept(far),
    );
    (near.unwrap().into(), far.unwrap().into())
}

/// The same, accepted as the proxy does.
async fn tls_of_ours() -> (Tls, tls::TlsStream) {
    let (client, server) = configs();
    let (near, far) = connection().await;
    let name = ServerName::try_from("pod.example").unwrap();
    let offer = tls::server::Offer::from(server);
    let (near, far) = tokio::join!(
        TlsConnector::from(client).connect(name, near),
        tls::server::accept(&offer, far, Duration::from_secs(10)),
    );
    (near.unwrap().into(), far.unwrap())
}

#[tokio::test]
async fn large_messages_and_a_clean_end_over_tls() {
    let run = async {
        let table = TunnelTable::new();
        let (mut client, client_side) = tls_of_ours().await;
        let (pod_side, mut pod) = tls().await;
        let none = Bytes::new;
        let guard = table.open(info("a.example"));
        let config = RelayConfig::default();
        let relay = tokio::spawn(relay(client_side, none(), pod_side, none(), guard, config));

        let up = write(Side::Pod, true, 2, &vec![1; 3 << 20]);
        let down = write(Side::Client, true, 2, &vec![2; 3 << 20]);
        let (mut at_pod, mut at_client) = (vec![0; up.len()], vec![0; down.len()]);
        {
            let (mut client_hears, mut client_says) = tokio::io::split(&mut client);
            let (mut pod_hears, mut pod_says) = tokio::io::split(&mut pod);
            tokio::join!(
                async { client_says.write_all(&up).await.unwrap() },
                async { fill(&mut at_pod, &mut pod_hears).await },
                async { pod_says.write_all(&down).await.unwrap() },
                async { fill(&mut at_client, &mut client_hears).await },
            );
            client_says.flush().await.unwrap();
            pod_says.flush().await.unwrap();
        }
        assert!(at_pod == up && at_client == down);

        table.end_all(Cause::Drain);
        let mut head = [0; 1];
        client.read_exact(&mut head).await.unwrap();
        client.write_all(&close(Side::Pod, 1012)).await.unwrap();
        client.flush().await.unwrap();
        let mut rest = head.to_vec();
        // An end without close_notify would be an error.
        client.read_to_end(&mut rest).await.unwrap();
        let received = parse(Side::Client, &rest).unwrap();
        assert_eq!(received.close, Some(Some(1012)));
        client.shutdown().await.unwrap();
        pod.write_all(&close(Side::Client, 1012)).await.unwrap();
        pod.shutdown().await.unwrap();
        let mut rest = Vec::new();
        pod.read_to_end(&mut rest).await.unwrap();
        assert_eq!(parse(Side::Pod, &rest).unwrap().close, Some(Some(1012)));
        assert_eq!(relay.await.unwrap().cause, Cause::Drain);
    };
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, run).await.unwrap();
}

async fn fill<R>(into: &mut [u8], from: &mut R)
where
    R: tokio::io::AsyncRead + Unpin,
{
    from.read_exact(into).await.unwrap();
}
