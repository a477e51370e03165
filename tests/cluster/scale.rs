//! Memory and time with many objects.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::api_server::{ApiServer, Fault, Rule};
use crate::controller::{edge, ingress, limited};
use crate::harness::raw;

/// Whether a run is to print figures for these counts of Ingresses, Services and EndpointSlices,
/// such as `10000,10000,10000`.
const COUNTS: &str = "HOLDFAST_SCALE";

/// A program that watches the server, with its admin port.
struct Program {
    child: Child,
    admin: SocketAddr,
    _home: TempDir,
}

impl Program {
    fn start(server: &ApiServer) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("kubeconfig");
        std::fs::write(&path, server.kubeconfig()).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = free.local_addr().unwrap();
        drop(free);
        let child = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args(["run", "--any-port", "--bind-address", "127.0.0.1"])
            .args(["--admin", &admin.to_string(), "--access-log", "off"])
            .args(["--log", "off"])
            .env("HOME", home.path())
            .env("KUBECONFIG", path)
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            child,
            admin,
            _home: home,
        }
    }

    async fn becomes_ready(&self) {
        let request = b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        loop {
            if std::net::TcpStream::connect(self.admin).is_ok()
                && raw(self.admin, request).await.starts_with("HTTP/1.1 200 ")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A line of `/proc/PID/status`, in KiB.
    fn memory(&self, line: &str) -> u64 {
        let status = self.proc("status");
        let value = status.lines().find_map(|found| found.strip_prefix(line));
        let value = value.unwrap().trim_start_matches(':').trim();
        value.strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// CPU time so far.
    fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id().unwrap());
        std::fs::read_to_string(path).unwrap()
    }
}

/// What writers leave behind in each object.
fn with_baggage(mut object: Value, bytes: usize) -> Value {
    let meta = object["metadata"].as_object_mut().unwrap();
    let applied = "x".repeat(bytes);
    let annotation = json!({"kubectl.kubernetes.io/last-applied-configuration": applied});
    meta.insert("annotations".to_owned(), annotation);
    let fields = json!({"f:spec": {"f:rules": {}, "f:ingressClassName": {}, "f:ports": {
        ".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}},
    }}, "f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}}}});
    let entry = json!({
        "manager": "kubectl-client-side-apply",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    });
    meta.insert("managedFields".to_owned(), json!([entry]));
    object
}

fn service(number: usize) -> Value {
    with_baggage(
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": format!("s{number}"), "namespace": "default"},
            "spec": {
                "clusterIP": "10.96.0.1",
                "clusterIPs": ["10.96.0.1"],
                "selector": {"app": format!("s{number}")},
                "sessionAffinity": "None",
                "type": "ClusterIP",
                "ports": [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": 8080}],
            },
            "status": {"loadBalancer": {}},
        }),
        300,
    )
}

fn slice(number: usize) -> Value {
    let service = format!("s{number}");
    let endpoints: Vec<Value> = (1..4)
        .map(|pod| {
            json!({
                "addresses": [format!("10.{}.{}.{pod}", number / 250, number % 250)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "node-1",
                "targetRef": {
                    "kind": "Pod",
                    "name": format!("{service}-7d4b9c6f5-{pod}"),
                    "namespace": "default",
                    "uid": "8f0d7c1e-2b7b-4b52-9a60-000000000000",
                },
            })
        })
        .collect();
    with_baggage(
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-abcde"),
                "namespace": "default",
                "generateName": format!("{service}-"),
                "labels": {
                    "kubernetes.io/service-name": service,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [{
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": service,
                    "uid": "8f0d7c1e-2b7b-4b52-9a60-000000000001",
                }],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        }),
        0,
    )
}

fn route(number: usize, services: usize, baggage: usize) -> Value {
    let target = format!("s{}", number % services.max(1));
    with_baggage(
        ingress(
            &format!("i{number}"),
            &format!("h{number}.example"),
            &target,
        ),
        baggage,
    )
}

/// What a list says beside what is kept of it is never held whole, streamed or by pages.
#[tokio::test]
async fn a_list_takes_no_memory_for_what_is_not_kept() {
    const BAGGAGE: usize = 40_000;
    for by_pages in [false, true] {
        limited(async {
            let mut most = Vec::new();
            for baggage in [0, BAGGAGE] {
                let server = edge().await;
                if by_pages {
                    server.script(Rule::on("watch", "*", Fault::status(422, "no")).times(7));
                }
                for number in 0..3_500 {
                    server.put(route(number, 0, baggage));
                }
                let program = Program::start(&server);
                program.becomes_ready().await;
                most.push(program.memory("VmHWM"));
            }
            // 140 MB were sent, 136,718 KiB; a page of 500 has 20 MB, in a buffer that doubles as it
            // grows, and the allocator keeps pages that were freed for a while.
            let allowed = if by_pages { 120 << 10 } else { 16 << 10 };
            assert!(
                most[1] < most[0] + allowed,
                "{most:?} KiB, by pages: {by_pages}"
            );
        })
        .await;
    }
}

#[tokio::test]
async fn figures() {
    let Ok(counts) = std::env::var(COUNTS) else {
        return;
    };
    let counts: Vec<usize> = counts
        .split(',')
        .map(|count| count.parse().unwrap())
        .collect();
    let [ingresses, services, slices] = counts[..] else {
        panic!("{COUNTS}: three counts");
    };
    let server = edge().await;
    for number in 0..services {
        server.put(service(number));
    }
    for number in 0..slices {
        server.put(slice(number));
    }
    for number in 0..ingresses {
        server.put(route(number, services, 300));
    }
    let began = Instant::now();
    let program = Program::start(&server);
    program.becomes_ready().await;
    let ready = began.elapsed();
    let (most, cpu) = (program.memory("VmHWM"), program.cpu());
    // Freed pages go back within a few seconds.
    tokio::time::sleep(Duration::from_secs(15)).await;
    println!(
        "{ingresses} Ingresses, {services} Services, {slices} EndpointSlices: ready after {ready:?} \
         with {cpu:?} of CPU; {} KiB then, {most} KiB at most",
        program.memory("VmRSS"),
    );
}
