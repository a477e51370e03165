//! One folder a rule under `tests/translate`: what `input.yaml` comes to is in `expected.snap`.
//! `INSTA_UPDATE=always cargo test --test translate` writes the expectations anew.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "translate/support.rs"]
#[allow(dead_code, reason = "each test program uses its part of this file")]
mod support;

use std::path::Path;

use holdfast::routing::Protocol;
use holdfast::translate::{Settings, Translator};

#[test]
fn every_case_comes_to_what_is_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/translate");
    let mut cases: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(cases.len() > 20, "the cases are missing");
    let settings = Settings {
        default_class: "holdfast".to_owned(),
        default_listeners: vec![
            ("http".to_owned(), 80, Protocol::Http),
            ("https".to_owned(), 443, Protocol::Https),
        ],
        ..Settings::default()
    };
    let mut failed = Vec::new();
    for case in cases {
        let yaml = std::fs::read_to_string(case.join("input.yaml")).unwrap();
        let world = support::world(support::read(&yaml));
        let translation = Translator::new(settings.clone()).translate(&world, &[]);
        let text = support::render(&world, &translation);
        let outcome = std::panic::catch_unwind(|| {
            insta::with_settings!({
                snapshot_path => &case,
                prepend_module_to_snapshot => false,
                omit_expression => true,
            }, {
                insta::assert_snapshot!("expected", text);
            });
        });
        if outcome.is_err() {
            failed.push(case);
        }
    }
    assert!(failed.is_empty(), "cases that differ: {failed:?}");
}
