//! Speed of the parts. `cargo bench --bench parts`.
#![allow(clippy::unwrap_used)]

#[path = "parts/translate.rs"]
mod translate;
#[path = "parts/tunnels.rs"]
mod tunnels;

fn main() {
    divan::main();
}
