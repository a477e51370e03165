//! A hash that is the same in every process and release, as names and ports are made from it.

use aws_lc_rs::digest::{Context, SHA256};

/// A hash of texts, told apart by their lengths.
pub(super) fn stable_hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut context = Context::new(&SHA256);
    for text in texts {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    }
    let digest = context.finish();
    let first = digest.as_ref().iter().take(8);
    first.fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}
