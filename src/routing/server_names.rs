//! Sets of the names that clients ask for in TLS (RFC 6066 §3) and in requests.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Host names, exact ones and those of one label under a suffix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    exact: BTreeSet<Arc<str>>,
    /// What follows `*.`.
    wildcard: BTreeSet<Arc<str>>,
}

impl ServerNames {
    /// Whether a name is among them; in lower case, without a trailing dot.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.exact.contains(name)
            || name
                .split_once('.')
                .is_some_and(|(_, suffix)| self.wildcard.contains(suffix))
    }

    /// Adds a name in lower case.
    pub fn insert_exact(&mut self, name: Arc<str>) {
        self.exact.insert(name);
    }

    /// Adds all names of one label before `.suffix`, which is in lower case.
    pub fn insert_wildcard(&mut self, suffix: Arc<str>) {
        self.wildcard.insert(suffix);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// As they are declared, in order: exact names, then `*.suffix`.
    #[must_use]
    pub fn declared(&self) -> Vec<String> {
        let wildcard = self.wildcard.iter().map(|suffix| format!("*.{suffix}"));
        let exact = self.exact.iter().map(ToString::to_string);
        exact.chain(wildcard).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let mut names = ServerNames::default();
        assert!(names.is_empty() && !names.contains("a.example"));
        names.insert_exact("a.example".into());
        names.insert_wildcard("old.example".into());
        for (name, is_in) in [
            ("a.example", true),
            ("b.example", false),
            ("x.a.example", false),
            ("x.old.example", true),
            ("old.example", false),
            ("y.x.old.example", false),
        ] {
            assert_eq!(names.contains(name), is_in, "{name}");
        }
        assert_eq!(names.declared(), ["a.example", "*.old.example"]);
    }
}
