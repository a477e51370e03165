//! What manifest files may look like, and what is said about those that are wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

use holdfast::source::Manifest;
use holdfast::source::manifest::{self, SIZE_LIMIT};
use holdfast::world::Object;
use proptest::prelude::*;

const INGRESS: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: demo, creationTimestamp: '2024-05-06T07:08:09Z'}
spec:
  rules:
  - host: a.example
    http:
      paths:
      - path: /
        pathType: Prefix
        backend: {service: {name: web, port: {number: 80}}}
";

const SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: cert}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    -----BEGIN CERTIFICATE-----
    MIIB
    -----END CERTIFICATE-----
  tls.key: |-
    -----BEGIN PRIVATE KEY-----
    --- not a marker: it is indented
";

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    )
}

fn read(text: &str) -> Manifest {
    manifest::read(text.as_bytes())
}

/// Names of the objects, and the lines they are at.
fn names(manifest: &Manifest) -> Vec<(String, usize)> {
    manifest
        .objects
        .iter()
        .map(|definition| (definition.object.key().to_string(), definition.line))
        .collect()
}

/// The objects of a text that is free of problems.
fn good(text: &str) -> Vec<String> {
    let manifest = read(text);
    assert_eq!(manifest.problems, [], "{text}");
    names(&manifest).into_iter().map(|(name, _)| name).collect()
}

/// The one problem of a text.
fn problem(text: &str) -> (usize, String) {
    let manifest = read(text);
    let [problem] = manifest.problems.as_slice() else {
        panic!("{:?} of\n{text}", manifest.problems);
    };
    (problem.line, problem.message.clone())
}

#[test]
fn nothing_is_no_problem() {
    for text in [
        "",
        "\n",
        "# only a comment\n",
        "---\n",
        "---\n---\n",
        "--- # comment\n...\n---\n# comment\n...\n",
        "\u{feff}",
        "\u{feff}---\n",
        "null\n",
        "%YAML 1.2\n---\n",
        "...\n",
    ] {
        assert_eq!(read(text), Manifest::default(), "{text:?}");
    }
}

#[test]
fn every_kind() {
    let text = [
        INGRESS,
        SECRET,
        &service("web"),
        "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: holdfast}\nspec: {controller: holdfast.dev/controller}\n",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ignored}\ndata: {a: b}\n",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1}\naddressType: IPv4\nendpoints: [{addresses: [127.0.0.1]}]\nports: [{port: 8080}]\n",
        "apiVersion: holdfast.dev/v1alpha1\nkind: LoadBalancer\nmetadata: {name: edge}\nspec: {exposure: Host, listeners: [{name: http, port: 8080, protocol: HTTP}]}\n",
    ]
    .join("---\n");
    assert_eq!(
        good(&text),
        [
            "Ingress demo/web",
            "Secret default/cert",
            "Service default/web",
            "IngressClass holdfast",
            "Namespace demo",
            "EndpointSlice default/web-1",
            "LoadBalancer default/edge",
        ]
    );
}

#[test]
fn creation_time_is_kept() {
    let manifest = read(INGRESS);
    assert_eq!(manifest.objects[0].object.meta().created, 1_714_979_289);
    let plain = INGRESS.replace('\'', "");
    assert_eq!(read(&plain).objects, manifest.objects);
    let null = INGRESS.replace("'2024-05-06T07:08:09Z'", "null");
    assert_eq!(read(&null).objects[0].object.meta().created, 0);
}

#[test]
fn block_scalars_keep_pem() {
    let manifest = read(SECRET);
    let Object::Secret(secret) = &manifest.objects[0].object else {
        panic!("{manifest:?}");
    };
    assert_eq!(
        secret.certificate.as_deref(),
        Some(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".as_slice())
    );
    assert_eq!(
        secret.key.as_deref(),
        Some(b"-----BEGIN PRIVATE KEY-----\n--- not a marker: it is indented".as_slice())
    );
}

#[test]
fn documents_and_their_lines() {
    let (a, b) = (service("a"), service("b"));
    let expected = |a, b| {
        [
            ("Service default/a".to_owned(), a),
            ("Service default/b".to_owned(), b),
        ]
    };
    for (text, lines) in [
        (format!("{a}---\n{b}"), (1, 6)),
        (format!("---\n{a}---\n{b}"), (2, 7)),
        (format!("# head\n\n{a}...\n---\n{b}...\n"), (3, 9)),
        (
            format!("%YAML 1.2\n---\n{a}...\n%YAML 1.2\n---\n{b}"),
            (3, 10),
        ),
        (format!("{a}...\n\n# comment\n{b}"), (1, 8)),
        (format!("\u{feff}{a}---\n{b}"), (1, 6)),
        (format!("{a}\u{feff}---\n{b}"), (1, 6)),
        (format!("{a}--- # next\n{b}"), (1, 6)),
        (format!("{a}---\t\n{b}"), (1, 6)),
        (
            format!(
                "--- {{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: 80}}]}}}}\n---\n{b}"
            ),
            (1, 3),
        ),
        (format!("{a}---\n---\n# empty\n---\n{b}"), (1, 9)),
    ] {
        let manifest = read(&text);
        assert_eq!(manifest.problems, [], "{text}");
        assert_eq!(names(&manifest), expected(lines.0, lines.1), "{text}");
        let windows = read(&text.replace('\n', "\r\n"));
        assert_eq!(windows, manifest, "{text}");
    }
}

#[test]
fn json_is_yaml() {
    let pretty = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Namespace\",\n\t\"metadata\": {\"name\": \"a\\/b\"}\n}\n";
    assert_eq!(good(pretty), ["Namespace a/b"]);
    let twice = "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}}\n---\n{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"b\"}}";
    assert_eq!(good(twice), ["Namespace a", "Namespace b"]);
}

#[test]
fn lists() {
    let indented = |text: &str| text.replace('\n', "\n  ");
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}\n- {}\n",
        indented(&service("a")).trim_end(),
        indented(INGRESS).trim_end()
    );
    assert_eq!(good(&list), ["Service default/a", "Ingress demo/web"]);
    // As `kubectl get --raw` gives it: items leave their type to the list.
    let typed = "apiVersion: networking.k8s.io/v1\nkind: IngressList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n";
    assert_eq!(good(typed), ["Ingress default/a", "Ingress default/b"]);
    for empty in ["items: []", "items: null", "items:", "metadata: {}"] {
        assert_eq!(
            good(&format!("apiVersion: v1\nkind: List\n{empty}\n")),
            [""; 0]
        );
    }
}

#[test]
fn a_bad_item_leaves_the_others_of_its_list() {
    let text = "\
# head
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- apiVersion: v1
  kind: Service
  metadata: {name: b}
  spec:
    ports:
    - port: many
- {apiVersion: v1, kind: Namespace, metadata: {name: c}}
";
    let manifest = read(text);
    assert_eq!(
        names(&manifest),
        [("Namespace a".to_owned(), 3), ("Namespace c".to_owned(), 3)]
    );
    let (line, message) = problem(text);
    assert_eq!(line, 12);
    assert!(message.starts_with("items[1]: Service: "), "{message}");
    let (_, message) =
        problem("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List}]\n");
    assert!(message.contains("a List within a List"), "{message}");
}

#[test]
fn foreign_kinds_are_skipped() {
    let text = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: a}
---
apiVersion: v1
kind: PodList
items: [1]
";
    let manifest = read(text);
    assert_eq!(manifest.problems, []);
    assert_eq!(
        manifest.skipped,
        [
            "Deployment.apps/v1",
            "Service.serving.knative.dev/v1",
            "PodList.v1"
        ]
    );
}

#[test]
fn old_versions_are_refused_with_a_remedy() {
    for (version, kind, remedy) in [
        ("extensions/v1beta1", "Ingress", "networking.k8s.io/v1"),
        (
            "networking.k8s.io/v1beta1",
            "Ingress",
            "networking.k8s.io/v1",
        ),
        (
            "networking.k8s.io/v1beta1",
            "IngressClass",
            "networking.k8s.io/v1",
        ),
        (
            "discovery.k8s.io/v1beta1",
            "EndpointSlice",
            "discovery.k8s.io/v1",
        ),
        ("holdfast.dev/v1", "LoadBalancer", "holdfast.dev/v1alpha1"),
        ("v2", "Secret", "v1"),
        ("extensions/v1beta1", "IngressList", "networking.k8s.io/v1"),
    ] {
        let (line, message) = problem(&format!("---\n\napiVersion: {version}\nkind: {kind}\n"));
        assert_eq!(line, 3);
        assert!(
            message.ends_with(&format!("convert it to {remedy}")),
            "{message}"
        );
    }
}

#[test]
fn what_is_wrong_and_in_which_line() {
    for (document, line, words) in [
        ("kind: Service", 1, "apiVersion"),
        ("a: b", 1, "no kind"),
        ("just text", 1, "a mapping with apiVersion and kind"),
        ("- a\n- b", 1, "a mapping with apiVersion and kind"),
        ("a: [\n", 1, "did not find"),
        ("a: b\n\tc: d", 2, "tab character"),
        ("a: b\n  c: d", 2, "not allowed in this context"),
        ("a: *nowhere", 1, "unknown anchor"),
        ("apiVersion: v1\nkind: Service", 1, "metadata.name"),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  name: b",
            5,
            "\"name\" is there twice",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {}\nspec: {}",
            5,
            "\"spec\" is there twice",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nunknown:\n  deep:\n    x: 1\n    x: 2",
            7,
            "\"x\" is there twice",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: \"80\"",
            6,
            "spec.ports[0].port",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations:\n    holdfast.dev/x: true",
            6,
            "boolean `true`",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: 8080",
            4,
            "metadata.name: invalid type: integer `8080`",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  creationTimestamp: yesterday",
            5,
            "creationTimestamp",
        ),
        (
            "apiVersion: holdfast.dev/v1alpha1\nkind: LoadBalancer\nmetadata: {name: a}\nspec:\n  exposure: Host\n  listeners: []\n  colour: red",
            7,
            "unknown field `colour`",
        ),
        (
            "apiVersion: holdfast.dev/v1alpha1\nkind: LoadBalancer\nmetadata: {name: a}",
            1,
            "missing field `spec`",
        ),
    ] {
        let (at, message) = problem(document);
        assert!(message.contains(words), "{message:?} of\n{document}");
        assert_eq!(at, line, "{message:?} of\n{document}");
        // The same as a second document, and the others count.
        let text = format!(
            "# head\n{}---\n{document}\n---\n{}",
            service("a"),
            service("b")
        );
        let (at, second) = problem(&text);
        assert_eq!(at, 6 + line, "{second:?} of\n{text}");
        assert_eq!(second, message);
        assert_eq!(names(&read(&text)).len(), 2, "{text}");
    }
}

#[test]
fn scalars_are_those_of_yaml_1_2() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: yes\n  labels: {on: on, off: no, y: 'true', 80: \"80\", e: 1.0.0}\n";
    let manifest = read(text);
    assert_eq!(manifest.problems, []);
    let Object::Namespace(namespace) = &manifest.objects[0].object else {
        panic!("{manifest:?}");
    };
    let labels: Vec<(&str, &str)> = namespace
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        labels,
        [
            ("80", "80"),
            ("e", "1.0.0"),
            ("off", "no"),
            ("on", "on"),
            ("y", "true")
        ]
    );
}

#[test]
fn anchors_and_merge_keys() {
    let text = "\
apiVersion: v1
kind: Namespace
base: &base {team: a, tier: b}
more: &more
  <<: *base
  zone: z
metadata:
  name: &name demo
  labels:
    <<: *more
    tier: own
    name: *name
";
    let manifest = read(text);
    assert_eq!(manifest.problems, []);
    let Object::Namespace(namespace) = &manifest.objects[0].object else {
        panic!("{manifest:?}");
    };
    let labels: Vec<String> = namespace
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(labels, ["name=demo", "team=a", "tier=own", "zone=z"]);
}

#[test]
fn alias_bombs_are_refused() {
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(","));
    }
    let wide = format!(
        "list: &a [{}]\nmore: [{}]\n",
        "x,".repeat(20_000),
        "*a,".repeat(20_000)
    );
    for bomb in [laughs, wide, "a: &a [*a]\n".to_owned()] {
        let text = format!(
            "{}---\napiVersion: v1\nkind: Namespace\n{bomb}",
            service("a")
        );
        let manifest = read(&text);
        assert_eq!(manifest.objects.len(), 1);
        assert_eq!(manifest.problems.len(), 1);
    }
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(10_000),
        "- ".repeat(10_000),
    ] {
        assert_eq!(read(&text).problems.len(), 1);
    }
}

#[test]
fn what_is_not_utf_8_spoils_its_document_only() {
    let mut bytes = service("a").into_bytes();
    bytes.extend(b"---\nkind: Service\nname: caf\xe9\n---\n");
    bytes.extend(service("b").into_bytes());
    let manifest = manifest::read(&bytes);
    assert_eq!(manifest.objects.len(), 2);
    assert_eq!(manifest.problems[0].line, 7);
    assert!(manifest.problems[0].message.contains("UTF-8"));
    let utf_16: Vec<u8> = "\u{feff}kind: a\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(manifest::read(&utf_16).problems.len(), 1);
}

#[test]
fn a_file_that_is_too_big_is_refused() {
    let big = vec![b'\n'; usize::try_from(SIZE_LIMIT).unwrap() + 1];
    assert!(manifest::read(&big).problems[0].message.contains("64 MiB"));
}

/// P10: what a Secret holds must not reach a log by way of a complaint.
#[test]
fn problems_do_not_quote_secrets() {
    for data in [
        "data: {tls.key: hunter2!}",
        "data: hunter2!",
        "stringData: [hunter2!]",
        "data: {tls.key: [hunter2!]}",
        "type: [hunter2!]",
        "data:\n- hunter2!",
    ] {
        let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{data}\n");
        let (line, message) = problem(&secret);
        assert!(!message.contains("hunter2"), "{message}");
        assert!(line == 4 || line == 5, "{message}");
        let list = format!(
            "apiVersion: v1\nkind: List\nitems:\n- {}",
            secret.trim_end().replace('\n', "\n  ")
        );
        let (_, message) = problem(&list);
        assert!(!message.contains("hunter2"), "{message}");
    }
    let (_, message) = problem("apiVersion: v1\nkind: List\nitems: hunter2!\n");
    assert!(!message.contains("hunter2"), "{message}");
    let (_, message) =
        problem("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {tls.key: '*bad*'}\n");
    assert_eq!(
        message,
        "Secret: data.tls.key does not fit (the value is not shown)"
    );
}

proptest! {
    /// Whatever a file holds, reading it ends without a panic, and what it says of lines is true.
    #[test]
    fn any_damage_is_survived(
        at in 0_usize..700,
        cut in 0_usize..20,
        insert in prop::sample::select(vec![
            "", "\n", "---\n", "\n...\n", ": ", "- ", "[", "}", "\"", "'", "|", "&a ", "*a ", "\t", "!!map ",
            "!x ", "? ", "<<: ", "%", "#", "\u{feff}", "\r", "\0", "\u{2028}", "@", "{{", "~",
        ]),
        repeat in 1_usize..4,
    ) {
        let good = format!("{INGRESS}---\n{SECRET}---\n{}", service("a"));
        let mut bytes = good.into_bytes();
        let at = at.min(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, insert.repeat(repeat).into_bytes());
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let manifest = manifest::read(&bytes);
        for problem in &manifest.problems {
            prop_assert!((1..=lines).contains(&problem.line), "{problem:?}");
        }
        for definition in &manifest.objects {
            prop_assert!((1..=lines).contains(&definition.line));
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let manifest = manifest::read(&bytes);
        prop_assert!(manifest.objects.is_empty());
    }
}
