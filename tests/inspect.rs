//! What people see: `check`, `routes` and `explain`, for the world in `tests/inspect/input.yaml`.
//! `INSTA_UPDATE=always cargo test --test inspect` writes the expectations anew.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "translate/support.rs"]
#[allow(dead_code, reason = "each test program uses its part of this file")]
mod support;

use std::fmt::Write as _;
use std::path::Path;

use holdfast::inspect::{InvalidUrl, check, explain, routes};
use holdfast::routing::UpstreamId;
use holdfast::translate::report::Report;
use holdfast::translate::{Settings, Translation, Translator, endpoints};
use holdfast::world::World;

fn translated() -> (World, Translation) {
    let world = support::world(support::read(include_str!("inspect/input.yaml")));
    let translation = Translator::new(Settings::default()).translate(&world, &[]);
    (world, translation)
}

fn assert_snapshot(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inspect"),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn check_prints_findings_by_object() {
    let (_, translation) = translated();
    let reports: Vec<Report> = translation.findings.iter().map(Report::from).collect();
    assert_snapshot("check_text", &check::render_text(&reports));
    assert_snapshot("check_json", &check::render_json(&reports));
    assert_eq!(check::render_text(&[]), "no findings\n");
}

#[test]
fn routes_prints_the_effective_table() {
    let (world, translation) = translated();
    let lookup = |upstream: &UpstreamId| endpoints(&world, upstream);
    let mut json = routes::json(&translation.snapshot, lookup);
    assert_snapshot("routes_text", &routes::text(&json).unwrap());
    // The certificate is made anew for each run.
    let fingerprint = json
        .pointer_mut("/listeners/1/certificates/0/fingerprint")
        .unwrap();
    assert_eq!(fingerprint.as_str().unwrap().len(), 64);
    *fingerprint = "(fingerprint)".into();
    assert_snapshot("routes_json", &format!("{json:#}"));
}

#[test]
fn explain_says_what_serves_a_url_and_why_others_do_not() {
    let (_, translation) = translated();
    let mut text = String::new();
    for url in [
        "https://chat.example/ws/room?id=1",
        "wss://CHAT.example.:443/ws",
        "ws://x.wild.example/",
        "http://nobody.example/",
        "http://chat.example/nope",
        "http://broken.example/",
        "https://chat.example:80/",
        "http://chat.example:8080/",
        "http://chat.example/%2e%2e/",
    ] {
        let explanation = explain(&translation.snapshot, url).unwrap();
        writeln!(text, "{explanation}").unwrap();
    }
    assert_snapshot("explain_text", &text);
    let explanation = explain(&translation.snapshot, "https://chat.example/ws").unwrap();
    assert!(explanation.is_served());
    assert_snapshot("explain_json", &format!("{:#}", explanation.json()));
    for url in ["", "chat.example", "/ws", "ftp://chat.example/", "https://"] {
        assert_eq!(
            explain(&translation.snapshot, url).unwrap_err(),
            InvalidUrl(url.to_owned())
        );
    }
}
