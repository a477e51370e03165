//! Holds `src/` to the table of allowed edges in `docs/architecture.md`.
//!
//! ```text
//! docs/architecture.md ─▶ Edges ─┐
//! src/**/*.rs ─▶ source_text::code ─▶ source_text::paths ─▶ violations
//! ```

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "layers/source_text.rs"]
mod source_text;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use source_text::{code, paths};

const MAX_LINES: usize = 500;
const FORBIDDEN_FILE_NAMES: [&str; 6] = ["utils", "util", "helpers", "common", "manager", "mod"];
/// No I/O, no clock, no randomness.
const PURE: [&str; 3] = ["translate", "routing", "world"];
const IMPURE_PATHS: [&[&str]; 11] = [
    &["tokio"],
    &["tokio_util"],
    &["fastrand"],
    &["notify"],
    &["std", "fs"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["jiff", "Timestamp", "now"],
];
/// Of `std::net`, these are data.
const ADDRESS_TYPES: [&str; 7] = [
    "AddrParseError",
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
];
/// Speak to the API server, or describe what it holds.
const KUBE: [&str; 3] = ["api", "leader", "source"];
/// Never know Kubernetes.
const DATA_PLANE: [&str; 6] = [
    "proxy",
    "websocket",
    "admission",
    "balance",
    "tls",
    "routing",
];

/// A file under `src/`, by its path relative to that folder (`proxy/pool.rs`).
struct SourceFile {
    path: String,
    text: String,
}

impl SourceFile {
    /// The top-level module that the file belongs to; `None` for `lib.rs`, which only lists them.
    fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        (module != "lib").then_some(module)
    }

    /// How many modules deep the file is: 1 for `proxy.rs`, 2 for `proxy/pool.rs`.
    fn depth(&self) -> usize {
        self.path.split('/').count()
    }
}

/// Which module may use which: `Some(set)`, or `None` for all.
type Edges = BTreeMap<String, Option<BTreeSet<String>>>;

/// Reads the table under the heading "Who may use whom".
fn edges(markdown: &str) -> Edges {
    let section = markdown
        .split("\n## ")
        .find(|section| section.starts_with("Who may use whom"))
        .expect("docs/architecture.md has a section \"Who may use whom\"");
    section
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(backticked);
            let module = cells.next()?.pop()?;
            let allowed = cells.next()?;
            let all = allowed.iter().any(|name| name == "*");
            Some((module, (!all).then(|| allowed.into_iter().collect())))
        })
        .collect()
}

fn backticked(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn violations(files: &[SourceFile], edges: &Edges) -> Vec<String> {
    let modules: BTreeSet<&str> = files.iter().filter_map(SourceFile::module).collect();
    let mut found = Vec::new();
    for module in &modules {
        if !edges.contains_key(*module) {
            found.push(format!(
                "{module}: has no row in the table of docs/architecture.md"
            ));
        }
    }
    for file in files {
        let mut complain = |what: String| found.push(format!("src/{}: {what}", file.path));
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            complain(format!("{lines} lines; {MAX_LINES} is the limit, split it"));
        }
        for name in file.path.trim_end_matches(".rs").split('/') {
            if FORBIDDEN_FILE_NAMES.contains(&name) {
                complain(format!("{name:?} says nothing; name it for its main type"));
            }
        }
        let Some(module) = file.module() else {
            continue;
        };
        let used = paths(&code(&file.text));
        for path in &used {
            let path: Vec<&str> = path.split("::").collect();
            if let Some(target) = crate_root_target(&path, file.depth())
                && target != module
                && modules.contains(target)
                && let Some(Some(allowed)) = edges.get(module)
                && !allowed.contains(target)
            {
                complain(format!("{module} may not use {target}"));
            }
            for problem in forbidden(module, &file.path, &path) {
                complain(format!("{}: {problem}", path.join("::")));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The top-level module that a path starts from, where it starts from the crate's root: by
/// `crate::x`, by `holdfast::x` in the binary, or by as many `super` as lead there.
fn crate_root_target<'a>(path: &[&'a str], depth: usize) -> Option<&'a str> {
    match path.first()? {
        &"crate" | &"holdfast" => path.get(1).copied(),
        &"super" => {
            let supers = path.iter().take_while(|part| **part == "super").count();
            (supers == depth).then(|| path.get(supers).copied())?
        }
        _ => None,
    }
}

/// What is wrong with a path to another crate, by who uses it.
fn forbidden(module: &str, file: &str, path: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    if PURE.contains(&module) {
        if IMPURE_PATHS.iter().any(|impure| path.starts_with(impure)) {
            problems.push(format!("{module} is pure: no I/O, clock or randomness"));
        }
        if path.starts_with(&["std", "net"])
            && !path.get(2).is_some_and(|name| ADDRESS_TYPES.contains(name))
        {
            problems.push(format!("{module} is pure: of std::net only address types"));
        }
    }
    if DATA_PLANE.contains(&module) && matches!(path.first(), Some(&("k8s_openapi" | "kube"))) {
        problems.push(format!("{module} never knows Kubernetes types"));
    } else if path.first() == Some(&"kube") && !KUBE.contains(&module) {
        problems.push("only source, leader and api speak to the API server".to_owned());
    }
    if path.first() == Some(&"serde_yaml") && module != "api" && file != "source/manifest.rs" {
        problems.push("YAML is read in source/manifest.rs and written in api".to_owned());
    }
    problems
}

fn read_sources(folder: &Path, root: &Path, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, root, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(SourceFile {
                path: path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
                text: fs::read_to_string(&path).unwrap(),
            });
        }
    }
}

#[test]
fn source_keeps_to_the_layers_of_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = edges(&fs::read_to_string(root.join("docs/architecture.md")).unwrap());
    let mut files = Vec::new();
    read_sources(&root.join("src"), &root.join("src"), &mut files);
    assert!(
        files.len() > 20,
        "src/ was not found: {} files",
        files.len()
    );
    let found = violations(&files, &table);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// What the check says about one file, in a crate with a few modules.
fn verdict(path: &str, text: &str) -> Vec<String> {
    let table = edges(
        "# A\n\n## Who may use whom\n\n| module | may use |\n|---|---|\n| `routing` | |\n\
         | `world` | |\n| `proxy` | `routing`, `tls` |\n| `tls` | |\n| `source` | |\n| `app` | `*` |\n\n## B\n| `x` | `y` |\n",
    );
    let mut files: Vec<SourceFile> = [
        "routing.rs",
        "world.rs",
        "proxy.rs",
        "tls.rs",
        "source.rs",
        "app.rs",
    ]
    .into_iter()
    .filter(|name| *name != path)
    .map(|name| SourceFile {
        path: name.to_owned(),
        text: String::new(),
    })
    .collect();
    files.push(SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    });
    violations(&files, &table)
}

#[test]
fn an_edge_outside_the_table_is_found_however_it_is_written() {
    for text in [
        "use crate::world::World;",
        "use crate::{routing::Route, world};",
        "use crate::{\n    tls,\n    world::{self, key::Kind as K},\n};",
        "fn f() { let x = crate::world::World::default(); }",
        "fn f(x: &'static crate::world::World) {}",
        "use super::super::world::World;",
        "pub(crate) use crate::world as w;",
    ] {
        let found = verdict("proxy/pool.rs", text);
        assert_eq!(
            found,
            ["src/proxy/pool.rs: proxy may not use world"],
            "{text}"
        );
    }
    assert_eq!(
        verdict("proxy.rs", "use super::world;"),
        ["src/proxy.rs: proxy may not use world"]
    );
}

#[test]
fn allowed_edges_comments_strings_and_unit_tests_pass() {
    for text in [
        "use crate::{routing, tls::Store}; use super::super::routing::Route; use super::world;",
        "//! see [`crate::world`]\n/* crate::world /* nested */ crate::world */ fn f() {}",
        "const A: &str = \"crate::world \\\" crate::world\"; const B: &str = r#\"\" crate::world\"#;",
        "const Q: char = '\"'; // crate::world\nfn f<'a>(x: &'a str) {}",
        "#[cfg(test)]\nmod tests {\n    use crate::world::World;\n}\n",
        "macro_rules! m { () => { $crate::world::f() } }",
    ] {
        assert_eq!(verdict("proxy/pool.rs", text), [""; 0], "{text}");
    }
    assert_eq!(verdict("app.rs", "use crate::world;"), [""; 0]);
}

#[test]
fn impurity_kubernetes_yaml_size_and_empty_names_are_found() {
    for (path, text, problem) in [
        ("routing/a.rs", "use tokio::time;", "pure"),
        ("routing/a.rs", "use std::{fmt, fs};", "pure"),
        (
            "routing/a.rs",
            "fn f() { std::time::SystemTime::now(); }",
            "pure",
        ),
        (
            "routing/a.rs",
            "use std::time::{Duration, Instant};",
            "pure",
        ),
        (
            "routing/a.rs",
            "use std::net::{IpAddr, TcpStream};",
            "address",
        ),
        ("world/a.rs", "fn f() -> u8 { fastrand::u8(..) }", "pure"),
        (
            "tls/a.rs",
            "use k8s_openapi::api::core::v1::Secret;",
            "Kubernetes",
        ),
        ("proxy/a.rs", "use kube::Resource;", "Kubernetes"),
        ("world/a.rs", "use kube::Client;", "API server"),
        ("source/files.rs", "use serde_yaml as yaml;", "YAML"),
        ("proxy/utils.rs", "", "says nothing"),
        ("proxy/mod.rs", "", "says nothing"),
        ("stray.rs", "", "no row"),
        ("proxy/long.rs", &"\n".repeat(501), "501 lines"),
    ] {
        let found = verdict(path, text);
        assert!(
            found.len() == 1 && found[0].contains(problem),
            "{path}: {text}: {found:?}"
        );
    }
    for (path, text) in [
        (
            "routing/a.rs",
            "use std::net::{IpAddr, SocketAddr}; use std::time::Duration;",
        ),
        ("world/a.rs", "use k8s_openapi::ByteString;"),
        ("source/manifest.rs", "use serde_yaml as yaml;"),
        ("source/cluster.rs", "use kube::Client;"),
        (
            "tls/a.rs",
            "use tokio::net::TcpStream; use std::time::Instant;",
        ),
    ] {
        assert_eq!(verdict(path, text), [""; 0], "{path}: {text}");
    }
}
