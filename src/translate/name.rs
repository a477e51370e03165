//! Hosts and paths as objects declare them.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use super::finding::{Notes, Reason};
use super::part::Claim;
use crate::routing::ServerNames;
use crate::routing::path::{InvalidPath, normalize};

/// Reads a declared host: an exact name or `*.` and a name, in any case. Empty means any host.
///
/// # Errors
/// What is wrong, to be continued by what happens and the remedy.
pub(super) fn host(text: &str) -> Result<Claim, &'static str> {
    if text.is_empty() {
        return Ok(Claim::AnyHost);
    }
    let text = text.to_ascii_lowercase();
    let (name, is_wildcard) = match text.strip_prefix("*.") {
        Some(suffix) => (suffix, true),
        None => (text.as_str(), false),
    };
    if name.contains('*') {
        return Err("a wildcard stands for one whole label at the start, as in *.example.com");
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err("an IP address cannot be a host");
    }
    if name.len() > 253 {
        return Err("a host has at most 253 characters");
    }
    if !name.split('.').all(is_label) {
        return Err(
            "a host consists of letters, digits and '-', in labels of 1 to 63 between dots",
        );
    }
    Ok(if is_wildcard {
        Claim::Wildcard(name.into())
    } else {
        Claim::Exact(name.into())
    })
}

/// The hosts of a list; what is none is named and left out.
pub(super) fn server_names(
    declared: &[String],
    field: &str,
    notes: &mut Notes,
) -> Arc<ServerNames> {
    let mut names = ServerNames::default();
    for (index, text) in declared.iter().enumerate() {
        let why = match host(text) {
            Ok(Claim::Exact(name)) => {
                names.insert_exact(name);
                continue;
            }
            Ok(Claim::Wildcard(suffix)) => {
                names.insert_wildcard(suffix);
                continue;
            }
            Ok(_) => "the host is empty",
            Err(why) => why,
        };
        notes.error(
            Reason::HostInvalid,
            format!("{field}[{index}]"),
            format!("{why}; this host is left out"),
        );
    }
    names.into()
}

/// RFC 1123 §2.1.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether a certificate's DNS name covers a host; both may be wildcards (RFC 6125 §6.4.3).
pub(super) fn covers(pattern: &str, host: &str) -> bool {
    pattern == host
        || pattern.strip_prefix("*.").is_some_and(|suffix| {
            host.split_once('.')
                .is_some_and(|(label, rest)| label != "*" && !label.is_empty() && rest == suffix)
        })
}

/// Brings a declared path into the form that requests are matched on. Characters that a request
/// can only carry percent-encoded may be written plainly.
///
/// # Errors
/// What is wrong.
pub(super) fn path(text: &str) -> Result<String, String> {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '?' | '#' => {
                return Err(format!(
                    "a path cannot have '{character}', because no request path has it"
                ));
            }
            '!'..='~' => encoded.push(character),
            _ => {
                let mut buffer = [0; 4];
                for byte in character.encode_utf8(&mut buffer).bytes() {
                    // Writing to a String cannot fail.
                    let _ = write!(encoded, "%{byte:02X}");
                }
            }
        }
    }
    match normalize(&encoded) {
        Ok(normal) => Ok(normal.into_owned()),
        Err(InvalidPath::NotAbsolute) => Err("the path must start with '/'".to_owned()),
        Err(InvalidPath::DotSegment) => {
            Err("the path must not have '.' or '..' as a segment".to_owned())
        }
        Err(InvalidPath::Encoding) => {
            Err("'%' must be followed by two hexadecimal digits other than 00".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_at_most_one_wildcard() {
        assert_eq!(host(""), Ok(Claim::AnyHost));
        assert_eq!(host("A.example"), Ok(Claim::Exact("a.example".into())));
        assert_eq!(host("*.Example"), Ok(Claim::Wildcard("example".into())));
        let long = "a".repeat(64);
        for text in [
            "*",
            "*.",
            "a.*",
            "*a.b",
            "*.*.b",
            "a..b",
            "a.",
            ".a",
            "-a.b",
            "a-.b",
            "a_b",
            "ä.de",
            "10.0.0.1",
            "*.10.0.0.1",
            "::1",
            "a:80",
            &long,
        ] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_are_written_as_requests_carry_them() {
        assert_eq!(path("/ä b"), Ok("/%C3%A4%20b".to_owned()));
        assert_eq!(path("/%61"), Ok("/a".to_owned()));
        for text in ["", "a", "/a?b", "/#", "/../a", "/%zz"] {
            assert!(path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_certificate_covers_one_label() {
        assert!(covers("a.b", "a.b"));
        assert!(covers("*.b", "a.b"));
        assert!(covers("*.b", "*.b"));
        assert!(!covers("*.b", "x.a.b"));
        assert!(!covers("*.b", "b"));
        assert!(!covers("*.a.b", "*.b"));
        assert!(!covers("a.b", "*.b"));
    }
}
