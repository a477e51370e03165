//! The Helm chart, rendered by Helm itself.
//!
//! ```text
//! values.yaml ─▶ Value (path, default, description, schema) ─┬▶ values.schema.json
//!     │                                                      └▶ README.md
//!     └─ helm template ─▶ objects ─┬▶ goldens, typed objects, rights, names
//!                                  └▶ manifests/install.yaml
//! ```
//!
//! `make chart` writes the generated files anew, `INSTA_UPDATE=always` the goldens.
#![allow(clippy::unwrap_used, clippy::panic)]

mod examples;
mod generated;
mod goldens;
mod helm;
mod leaves;
mod notes;
mod objects;
mod refusals;
mod rights;
mod rules;
mod schema;
mod trace;
mod values;

use std::path::{Path, PathBuf};

/// A path within the checkout.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The chart.
fn chart() -> PathBuf {
    repository("charts/holdfast")
}
