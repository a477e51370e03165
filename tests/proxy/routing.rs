//! Which route a request takes, at the socket.

use crate::answers::assert_ours;
use crate::fixture::{edge_with_spec, get, within};
use crate::harness::{EDGE, Holdfast, ingress, service};
use crate::pod::Pod;
use crate::wire::Wire;

/// A pod that says its name.
async fn named(name: &str) -> Pod {
    let length = name.len();
    Pod::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}"
    ))
    .await
}

/// Asks for a URL and answers the name of the pod, or the status of an error.
async fn ask(client: &mut Wire, host: &str, path: &str) -> String {
    let answer = client.ask(get(path).replace("app.example", host)).await;
    match answer.status() {
        200 => answer.text().to_owned(),
        404 => "404".to_owned(),
        other => panic!("{other} for {host}{path}"),
    }
}

/// An Ingress with paths `(kind, path, service)` for a host.
fn with_paths(name: &str, host: &str, paths: &[(&str, &str, &str)]) -> String {
    let base = ingress(name, host, "x");
    let (head, _) = base.split_once("{path: /,").unwrap();
    let path = |(kind, path, service): &(&str, &str, &str)| {
        format!(
            "{{path: {path}, pathType: {kind}, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}"
        )
    };
    let paths: Vec<String> = paths.iter().map(path).collect();
    format!("{head}{}]}}}}\n", paths.join(", "))
}

#[tokio::test]
async fn hosts_are_exact_before_wildcards_of_one_label() {
    within(async {
        let pods = [
            named("exact").await,
            named("wild").await,
            named("rest").await,
        ];
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("exact.yaml", &service("exact", "", &[pods[0].address])),
            ("wild.yaml", &service("wild", "", &[pods[1].address])),
            ("a.yaml", &ingress("a", "foo.bar.example", "exact")),
            ("b.yaml", &ingress("b", "*.bar.example", "wild")),
        ])
        .await;
        let mut client = holdfast.client().await;
        for (host, expected) in [
            ("foo.bar.example", "exact"),
            ("FOO.Bar.Example", "exact"),
            ("foo.bar.example:8080", "exact"),
            ("foo.bar.example.", "exact"),
            ("foo.bar.example.:80", "exact"),
            ("x.bar.example", "wild"),
            ("X.BAR.example:1", "wild"),
            ("a.b.bar.example", "404"),
            ("bar.example", "404"),
            ("foo.example", "404"),
            ("127.0.0.1", "404"),
        ] {
            assert_eq!(ask(&mut client, host, "/").await, expected, "{host}");
        }
        // A default backend takes what is left.
        let rest = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: rest, namespace: default}
spec: {ingressClassName: holdfast, defaultBackend: {service: {name: rest, port: {number: 80}}}}
";
        holdfast
            .write("c.yaml", &service("rest", "", &[pods[2].address]))
            .await;
        holdfast.write("d.yaml", rest).await;
        for (host, expected) in [
            ("foo.bar.example", "exact"),
            ("x.bar.example", "wild"),
            ("a.b.bar.example", "rest"),
            ("127.0.0.1", "rest"),
        ] {
            assert_eq!(
                ask(&mut client, host, "/any/path").await,
                expected,
                "{host}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn paths_are_matched_by_elements_and_the_longest_wins() {
    within(async {
        let names = ["exact", "short", "long", "slash"];
        let mut pods = Vec::new();
        let mut manifests = vec![("edge.yaml".to_owned(), EDGE.to_owned())];
        for name in names {
            let pod = named(name).await;
            manifests.push((format!("{name}.yaml"), service(name, "", &[pod.address])));
            pods.push(pod);
        }
        let paths = [
            ("Exact", "/foo", "exact"),
            ("Prefix", "/foo", "short"),
            ("Prefix", "/aaa", "short"),
            ("Prefix", "/aaa/bbb", "long"),
            ("Prefix", "/ccc/ddd/", "slash"),
            ("Exact", "/eee/", "exact"),
        ];
        manifests.push(("i.yaml".to_owned(), with_paths("i", "app.example", &paths)));
        let manifests: Vec<(&str, &str)> = manifests.iter().map(|(n, y)| (&**n, &**y)).collect();
        let holdfast = Holdfast::start(&manifests).await;
        let mut client = holdfast.client().await;
        for (path, expected) in [
            ("/foo", "exact"),
            ("/foo?a=/b", "exact"),
            ("/f%6fo", "exact"),
            ("/foo/", "short"),
            ("/foo/x", "short"),
            ("/foox", "404"),
            ("/FOO", "404"),
            ("/aaa", "short"),
            ("/aaa/ccc", "short"),
            ("/aaa/bbb", "long"),
            ("/aaa/bbb/ccc", "long"),
            ("/aaa/bbbx", "short"),
            ("/aaaccc", "404"),
            ("/ccc/ddd", "slash"),
            ("/ccc/ddd/", "slash"),
            ("/ccc/dddx", "404"),
            ("/eee", "404"),
            ("/eee/", "exact"),
            ("/", "404"),
        ] {
            assert_eq!(
                ask(&mut client, "app.example", path).await,
                expected,
                "{path}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn two_ingresses_share_a_host() {
    within(async {
        let pods = [named("one").await, named("two").await];
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("one.yaml", &service("one", "", &[pods[0].address])),
            ("two.yaml", &service("two", "", &[pods[1].address])),
            (
                "a.yaml",
                &with_paths("a", "app.example", &[("Prefix", "/one", "one")]),
            ),
            (
                "b.yaml",
                &with_paths("b", "app.example", &[("Prefix", "/two", "two")]),
            ),
        ])
        .await;
        let mut client = holdfast.client().await;
        assert_eq!(ask(&mut client, "app.example", "/one/x").await, "one");
        assert_eq!(ask(&mut client, "app.example", "/two/x").await, "two");
        assert_eq!(ask(&mut client, "app.example", "/").await, "404");
    })
    .await;
}

#[tokio::test]
async fn rules_have_hosts_paths_and_listeners_of_their_own() {
    within(async {
        let pod = named("pod").await;
        let rules = "  rules:
  - {hosts: [a.example, '*.b.example'], backends: [{service: {name: app, port: 80}}]}
  - {hosts: [c.example], path: {type: Exact, value: /only}, backends: [{service: {name: app, port: web}}]}
  - {hosts: [d.example], path: {value: /under}, backends: [{service: {name: app, port: 80}}]}
  - {hosts: [e.example], listeners: [https], backends: [{service: {name: app, port: 80}}]}
  - {hosts: [f.example], listeners: [http], backends: [{service: {name: app, port: 80}}]}
  - {hosts: [g.example], backends: [{service: {name: app, port: 80}, weight: 1}]}
";
        let app = service("app", "", &[pod.address]).replace("namespace: default", "namespace: edge");
        let holdfast =
            Holdfast::start(&[("edge.yaml", &edge_with_spec(rules)), ("app.yaml", &app)]).await;
        let mut http = holdfast.client().await;
        let tls = crate::tls_client::TlsClient::new(&[]);
        let stream = tls.connect(holdfast.address("https"), "any.example").await;
        let mut https = Wire::new(stream);
        for (host, path, over_http, over_https) in [
            ("a.example", "/x", "pod", "pod"),
            ("x.b.example", "/", "pod", "pod"),
            ("c.example", "/only", "pod", "pod"),
            ("c.example", "/only/x", "404", "404"),
            ("d.example", "/under/x", "pod", "pod"),
            ("d.example", "/", "404", "404"),
            ("e.example", "/", "404", "pod"),
            ("f.example", "/", "pod", "404"),
            ("g.example", "/", "pod", "pod"),
        ] {
            assert_eq!(ask(&mut http, host, path).await, over_http, "{host}{path}");
            assert_eq!(ask(&mut https, host, path).await, over_https, "{host}{path}");
        }
        let answer = http.ask(get("/").replace("app.example", "e.example")).await;
        assert_ours(&answer, 404, "no_route_for_host");
    })
    .await;
}
