//! What Helm prints after an installation.

use std::fs;
use std::path::Path;

use super::chart;
use super::helm::{self, Rendering};

/// Helm renders notes only where there is a cluster, so a copy of the chart says them in an object.
fn notes(values: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    copy(&chart(), folder.path());
    let templates = folder.path().join("templates");
    let text = fs::read_to_string(templates.join("NOTES.txt")).unwrap();
    fs::write(
        templates.join("notes.yaml"),
        format!("{{{{- define \"notes\" -}}}}\n{text}{{{{- end }}}}\nkind: Notes\nmetadata: {{name: notes}}\ntext: {{{{ include \"notes\" . | toJson }}}}\n"),
    )
    .unwrap();
    let rendering = Rendering {
        chart: folder.path().to_owned(),
        ..helm::with(values)
    };
    let objects = rendering.objects();
    let notes = helm::find(&objects, "Notes", "notes").unwrap();
    notes["text"].as_str().unwrap().to_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

#[test]
fn notes_say_how_to_send_the_first_request() {
    let notes = notes("{}");
    insta::with_settings!({
        snapshot_path => super::repository("tests/chart/cases"),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("notes", notes);
    });
}

/// The address comes from where the exposure puts it, and the port is the listener's.
#[test]
fn notes_follow_the_exposure() {
    let status = "ADDRESS=$(kubectl get loadbalancers.holdfast.dev -n edge holdfast -o jsonpath='{.status.addresses[0].value}')";
    let owned = "service -n edge -l holdfast.dev/load-balancer-namespace=edge,holdfast.dev/load-balancer-name=holdfast";
    let cases: [(&str, &[&str]); 7] = [
        (
            "controller: {service: {ports: {http: 8080}}}",
            &[status, "http://$ADDRESS:8080/\n"],
        ),
        (
            "controller: {hostNetwork: true, kind: DaemonSet}",
            &[status, "daemonset/holdfast", "http://$ADDRESS/\n"],
        ),
        (
            "controller: {service: {type: NodePort, ports: {http: 8080}}}",
            &[
                "ADDRESS=$NODE:$PORT",
                "nodePort",
                owned,
                "http://$ADDRESS/\n",
            ],
        ),
        (
            "controller: {service: {type: ClusterIP}}",
            &[
                "port-forward -n edge \"$SERVICE\" 8080:80 &",
                owned,
                "ADDRESS=localhost:8080",
            ],
        ),
        (
            "controller: {service: {enableHttp: false, ports: {https: 8443}}}",
            &[
                "--connect-to ::$ADDRESS:8443",
                "https://chat.example.com/",
                "-k",
            ],
        ),
        (
            "controller: {loadBalancer: {create: false, name: mine, namespace: chat}}",
            &["chat/mine, which is yours to make"],
        ),
        (
            "{controller: {loadBalancer: {create: false}, scope: {enabled: true, namespace: 'a,b'}}, hooks: {uninstall: {enabled: false}}}",
            &[
                "only: a,b",
                "No LoadBalancer was made",
                "holdfast uninstall",
            ],
        ),
    ];
    for (values, expected) in cases {
        let notes = notes(values);
        for part in expected {
            assert!(notes.contains(part), "{values}: no {part} in:\n{notes}");
        }
        assert!(
            notes.lines().all(|line| line == line.trim_end()),
            "{values}: {notes}"
        );
        assert!(
            !notes.contains("<no value>") && !notes.contains("\n\n\n"),
            "{values}: {notes}"
        );
    }
}
