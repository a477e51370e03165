//! A table of 100,000 tunnels: listed, looked through, and asked for over the admin port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use divan::{Bencher, black_box};
use holdfast::app::App;
use holdfast::config::Config;
use holdfast::routing::{ListenerId, Origin, PodProtocol, RouteId, UpstreamId};
use holdfast::websocket::{Selection, TunnelGuard, TunnelInfo, TunnelTable};

const COUNT: u32 = 100_000;

/// Tunnels of 100 routes and 1,000 pods.
fn fill(table: &TunnelTable) -> Vec<TunnelGuard> {
    let listener = Arc::new(ListenerId {
        namespace: "edge".into(),
        load_balancer: "edge".into(),
        name: "https".into(),
    });
    let routes: Vec<(Arc<RouteId>, Arc<UpstreamId>)> = (0..100)
        .map(|number| {
            let service = format!("chat-{number}");
            let route = RouteId {
                origin: Arc::new(Origin {
                    kind: "Ingress",
                    namespace: "default".into(),
                    name: service.as_str().into(),
                }),
                host: format!("{service}.example.com").into(),
                path: "/ws".into(),
            };
            let upstream = UpstreamId {
                namespace: "default".into(),
                service: service.into(),
                port: 80,
                protocol: PodProtocol::Plain,
            };
            (Arc::new(route), Arc::new(upstream))
        })
        .collect();
    let info = |number: u32| {
        let (route, upstream) = &routes[number as usize % routes.len()];
        let [_, high, middle, low] = number.to_be_bytes();
        TunnelInfo {
            route: Arc::clone(route),
            listener: Arc::clone(&listener),
            upstream: Arc::clone(upstream),
            endpoint: SocketAddr::from(([10, 0, (number % 1000 / 250) as u8, low], 8080)),
            client: SocketAddr::from(([100, high, middle, low], 40_000)),
            http_version: http::Version::HTTP_11,
            request_id: Some("0123456789abcdef0123456789abcdef".into()),
        }
    };
    (0..COUNT).map(|number| table.open(info(number))).collect()
}

#[divan::bench(sample_count = 20)]
fn list(bencher: Bencher<'_, '_>) {
    let table = TunnelTable::new();
    let _tunnels = fill(&table);
    bencher.bench_local(|| black_box(table.list()).len());
}

#[divan::bench(sample_count = 20)]
fn select_one_pod(bencher: Bencher<'_, '_>) {
    let table = TunnelTable::new();
    let _tunnels = fill(&table);
    let selection = Selection {
        route: Some("chat-42.".to_owned()),
        ..Selection::default()
    };
    bencher.bench_local(|| black_box(table.select(&selection)).len());
}

#[divan::bench(sample_count = 20)]
fn visit(bencher: Bencher<'_, '_>) {
    let table = TunnelTable::new();
    let _tunnels = fill(&table);
    bencher.bench_local(|| {
        let mut pods = 0_u64;
        table.visit(|_, info| pods += u64::from(info.endpoint.port()));
        pods
    });
}

/// As `holdfast tunnels` asks.
#[divan::bench(args = ["/tunnels?limit=100", "/tunnels"], sample_count = 10)]
fn admin(bencher: Bencher<'_, '_>, path: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::new(directory.path());
    config.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let app = App::start(config).unwrap();
    let _tunnels = fill(app.tunnels());
    let address = app.admin_address().unwrap();
    bencher.bench_local(|| {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
        answer.len()
    });
}
