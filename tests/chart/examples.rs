//! `manifests/`: what is there is served as it says.

use std::fs;
use std::path::PathBuf;

use holdfast::source::read_once;
use holdfast::translate::report::Report;
use holdfast::translate::{Settings, Translator};
use holdfast::world::{Delta, World};
use serde_json::json;

use super::helm::documents;
use super::{objects, repository};

fn examples() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(repository("manifests/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 4);
    paths
}

#[test]
fn manifests_decode_into_their_types() {
    for path in examples()
        .into_iter()
        .chain([repository("manifests/install.yaml")])
    {
        let text = fs::read_to_string(&path).unwrap();
        for object in documents(&text) {
            objects::assert_typed(&object, &path.display().to_string());
        }
        // `localhost/holdfast:VERSION` is what `make image` builds.
        for line in text
            .lines()
            .filter(|line| line.contains("localhost/holdfast:"))
        {
            let image = concat!("localhost/holdfast:", env!("CARGO_PKG_VERSION"));
            assert!(line.contains(image), "{}: {line}", path.display());
        }
    }
}

/// Beside the installed controller, with the Secrets that they ask for.
#[test]
fn examples_have_no_finding() {
    let secrets = tempfile::tempdir().unwrap();
    for (name, hosts) in [
        ("shop-tls", &["shop.example.com", "www.example.com"][..]),
        ("live-tls", &["live.example.com"][..]),
    ] {
        let names: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": name, "namespace": "hosts-tls-example"},
            "stringData": {
                "tls.crt": made.cert.pem(),
                "tls.key": made.signing_key.serialize_pem(),
            },
        });
        fs::write(
            secrets.path().join(format!("{name}.yaml")),
            secret.to_string(),
        )
        .unwrap();
    }
    for example in examples() {
        let mut paths = vec![example.clone(), secrets.path().to_owned()];
        // The one on host ports is an installation of its own.
        if !example.ends_with("host-ports.yaml") {
            paths.push(repository("manifests/install.yaml"));
        }
        let reading = read_once(&paths);
        assert!(reading.problems.is_empty(), "{:?}", reading.problems);
        let mut world = World::default();
        for object in reading.objects {
            world.apply(Delta::Apply(object));
        }
        let translation = Translator::new(Settings::default()).translate(&world, &[]);
        let findings: Vec<Report> = translation.findings.iter().map(Report::from).collect();
        assert!(findings.is_empty(), "{}: {findings:#?}", example.display());
        assert!(!translation.snapshot.listeners.is_empty());
    }
}
