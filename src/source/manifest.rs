//! The bytes of one manifest file to objects.
//!
//! ```text
//! bytes ─▶ documents (cut at `---` and `...`) ─▶ header (apiVersion, kind) ─▶ typed object
//!                  │                                └─ a List: each item
//!                  └─ what does not parse or fit its kind: a Problem, and only it is lost
//! ```
//!
//! A file with a broken document is read all the same: the other documents count.

use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_yaml::{Error, Value};

use super::document::{Document, documents};
use super::kind::{ItemSeed, api_version, decode_kind, holds};
use super::strict::{Guard, Strict};
use crate::world::{Kind, Object};

/// Bytes that a manifest file may have.
pub const SIZE_LIMIT: u64 = 64 << 20;

/// Items of one List whose problems are given with an exact line: each costs another pass over
/// the document.
const LOCATED_ITEMS: usize = 16;

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Objects of the kinds that are read, in the order of the file.
    pub objects: Vec<Definition>,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// The rest, as `kind.group/version`: kinds that mean nothing here.
    pub skipped: Vec<String>,
}

/// An object and where it is defined.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Line where the document starts (for items, their List), from 1.
    pub line: usize,
    /// The object.
    pub object: Object,
}

/// What is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

/// Reads the bytes of a file. Never fails: what cannot be read is among the problems.
///
/// ConfigMaps are accepted and not stored; nothing refers to them yet.
#[must_use]
pub fn read(bytes: &[u8]) -> Manifest {
    let mut manifest = Manifest::default();
    if bytes.len() as u64 > SIZE_LIMIT {
        manifest.problems.push(Problem::too_big());
        return manifest;
    }
    for document in documents(bytes) {
        read_document(document, &mut manifest);
    }
    manifest
}

impl Problem {
    pub(super) fn too_big() -> Self {
        Self {
            line: 1,
            message: format!(
                "the file has more than {} MiB; split it",
                SIZE_LIMIT / (1 << 20)
            ),
        }
    }
}

/// What tells what a document is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    rename_all = "camelCase",
    expecting = "a mapping with apiVersion and kind"
)]
struct Header {
    api_version: Option<String>,
    kind: Option<String>,
}

/// Items of a List, of whatever type.
#[derive(Debug, Deserialize)]
struct List {
    items: Option<Vec<Value>>,
}

/// What to do with a document.
#[derive(Debug, PartialEq, Eq)]
enum Sort {
    Known(Kind),
    /// A List; the kind and version of the items that do not say it themselves.
    List(Option<Header>),
    /// Known, and without meaning to us so far.
    Ignored,
    /// Of no interest.
    Foreign(String),
    Wrong(String),
}

fn read_document(document: Document<'_>, manifest: &mut Manifest) {
    let Document { bytes, line, .. } = document;
    let problems = &mut manifest.problems;
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            problems.push(Problem {
                line: document.start + before.iter().filter(|&&byte| byte == b'\n').count(),
                message: "not UTF-8 text; save the file as UTF-8".to_owned(),
            });
            return;
        }
    };
    let guard = Guard::for_document(text.len());
    let header = match decode::<Option<Header>>(text, &guard) {
        Ok(None) => return,
        Ok(Some(header)) => header,
        Err(error) => {
            problems.push(problem(document, &error, None));
            return;
        }
    };
    match header.sort() {
        Sort::Known(kind) => match decode_object(kind, text, &guard) {
            Ok(object) => keep(line, object, manifest),
            Err(error) => problems.push(problem(document, &error, Some(kind))),
        },
        Sort::List(defaults) => {
            let merges = guard.saw_merge();
            read_list(document, text, defaults.as_ref(), merges, manifest);
        }
        Sort::Ignored => {}
        Sort::Foreign(name) => manifest.skipped.push(name),
        Sort::Wrong(message) => problems.push(Problem { line, message }),
    }
}

fn keep(line: usize, object: Object, manifest: &mut Manifest) {
    if object.meta().name.name.is_empty() {
        manifest.problems.push(Problem {
            line,
            message: format!("a {} without metadata.name; name it", object.kind()),
        });
    } else {
        manifest.objects.push(Definition { line, object });
    }
}

impl Header {
    fn sort(&self) -> Sort {
        let Some(kind) = self.kind.as_deref().filter(|kind| !kind.is_empty()) else {
            return Sort::Wrong("no kind: a manifest starts with apiVersion and kind".to_owned());
        };
        let version = self.api_version.as_deref().unwrap_or_default();
        if version.is_empty() {
            return Sort::Wrong(format!("no apiVersion for kind {kind}; add it"));
        }
        if kind == "List" && version == "v1" {
            return Sort::List(None);
        }
        if kind == "ConfigMap" && version == "v1" {
            return Sort::Ignored;
        }
        let (item, is_list) = match kind.strip_suffix("List") {
            Some(item) => (item, true),
            None => (kind, false),
        };
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        let known = Kind::ALL.into_iter().find(|known| known.as_str() == item);
        match known {
            Some(known) if version == api_version(known) && is_list => Sort::List(Some(Self {
                api_version: self.api_version.clone(),
                kind: Some(item.to_owned()),
            })),
            Some(known) if version == api_version(known) => Sort::Known(known),
            Some(known) if holds(group, known) => Sort::Wrong(format!(
                "{kind} of {version} is not read; convert it to {}",
                api_version(known)
            )),
            // A kind of the same name in a foreign group, such as a Service of Knative.
            _ => Sort::Foreign(format!("{kind}.{version}")),
        }
    }
}

fn read_list(
    document: Document<'_>,
    text: &str,
    defaults: Option<&Header>,
    merges: bool,
    manifest: &mut Manifest,
) {
    let line = document.line;
    let guard = Guard::for_document(text.len());
    let items = match decode::<List>(text, &guard) {
        Ok(list) => list.items.unwrap_or_default(),
        Err(error) => {
            // Only `items` itself can be of the wrong type, and a Secret may stand there.
            let mut problem = problem(document, &error, None);
            problem.message = format!("List: {}", unquoted(&problem.message));
            manifest.problems.push(problem);
            return;
        }
    };
    let mut located = 0;
    for (index, mut item) in items.into_iter().enumerate() {
        let wrong = |message: String| Problem {
            line,
            message: format!("items[{index}]: {message}"),
        };
        let merged = if merges {
            apply_merges(&mut item).map_err(|error| error.to_string())
        } else {
            Ok(())
        };
        let header = match merged.and_then(|()| fill_in(&mut item, defaults)) {
            Ok(header) => header,
            Err(message) => {
                manifest.problems.push(wrong(message));
                continue;
            }
        };
        let item_guard = Guard::for_document(text.len());
        match header.sort() {
            Sort::Known(kind) => match decode_kind(kind, Strict::new(item, &item_guard)) {
                Ok(object) => keep(line, object, manifest),
                Err(error) => {
                    let error = problem(document, &error, Some(kind));
                    let mut error = wrong(error.message);
                    located += 1;
                    if located <= LOCATED_ITEMS {
                        error.line = line_of_item(kind, index, document, text);
                    }
                    manifest.problems.push(error);
                }
            },
            Sort::List(_) => manifest.problems.push(wrong(
                "a List within a List; put its items into the outer one".to_owned(),
            )),
            Sort::Ignored => {}
            Sort::Foreign(name) => manifest.skipped.push(name),
            Sort::Wrong(message) => manifest.problems.push(wrong(message)),
        }
    }
}

/// Fills in the type of an item that leaves it to its List, as API servers do.
fn fill_in(item: &mut Value, defaults: Option<&Header>) -> Result<Header, String> {
    let Value::Mapping(fields) = item else {
        return Err("not a mapping with apiVersion and kind".to_owned());
    };
    if let Some(defaults) = defaults {
        for (name, value) in [
            ("apiVersion", &defaults.api_version),
            ("kind", &defaults.kind),
        ] {
            if let (false, Some(value)) = (fields.contains_key(name), value) {
                fields.insert(name.into(), value.as_str().into());
            }
        }
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Header {
        api_version: text("apiVersion"),
        kind: text("kind"),
    })
}

/// The line at which an item fails to decode.
fn line_of_item(kind: Kind, index: usize, document: Document<'_>, text: &str) -> usize {
    let guard = Guard::for_document(text.len());
    let list = Strict::new(serde_yaml::Deserializer::from_str(text), &guard);
    let outcome = ItemSeed { kind, index }.deserialize(list);
    outcome.map_or_else(|error| line_of(document, &error), |()| document.line)
}

/// Applies merge keys, also where what is merged in has one itself.
fn apply_merges(value: &mut Value) -> Result<(), Error> {
    const DEPTH: usize = 4;
    (0..DEPTH).try_for_each(|_| value.apply_merge())
}

fn decode<T: DeserializeOwned>(text: &str, guard: &Guard) -> Result<T, Error> {
    T::deserialize(Strict::new(serde_yaml::Deserializer::from_str(text), guard))
}

/// Decodes from the text, so that errors know their line. Merge keys are rare, and are applied to
/// a tree that does not know lines.
fn decode_object(kind: Kind, text: &str, seen: &Guard) -> Result<Object, Error> {
    let guard = Guard::for_document(text.len());
    if seen.saw_merge() {
        let mut value: Value = decode(text, &guard)?;
        apply_merges(&mut value)?;
        return decode_kind(kind, Strict::new(value, &guard));
    }
    decode_kind(
        kind,
        Strict::new(serde_yaml::Deserializer::from_str(text), &guard),
    )
}

/// An error as a problem of the file.
fn problem(document: Document<'_>, error: &Error, kind: Option<Kind>) -> Problem {
    let message = match kind {
        Some(kind) => format!("{kind}: {}", words(error, kind)),
        None => without_position(&error.to_string()),
    };
    Problem {
        line: line_of(document, error),
        message,
    }
}

fn words(error: &Error, kind: Kind) -> String {
    let message = without_position(&error.to_string());
    if kind == Kind::Secret {
        unquoted(&message)
    } else {
        message
    }
}

/// Why the JSON of an object does not decode, in the same words as for a file and with the path of
/// the field, which the errors of a JSON decoder lack. JSON is YAML.
pub(super) fn why_unreadable(kind: Kind, json: &str) -> Option<String> {
    let guard = Guard::for_document(json.len());
    let outcome = decode_object(kind, json, &guard);
    outcome.err().map(|error| words(&error, kind))
}

/// The line of an error in the file. The parser counts from the start of the document, and puts
/// what is missing at its end beyond the last line.
fn line_of(document: Document<'_>, error: &Error) -> usize {
    let content = document.bytes.trim_ascii_end();
    let last = document.start + content.iter().filter(|&&byte| byte == b'\n').count();
    error
        .location()
        .map_or(document.line, |at| document.start + at.line() - 1)
        .clamp(document.line, last.max(document.line))
}

/// Takes `at line 3 column 5` and `at position 3` out of a message: they count from the start of
/// the document, and the problem has a line of its own.
fn without_position(message: &str) -> String {
    let is_number = |word: &&str| {
        let digits = word.trim_end_matches(',');
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut words = message.split(' ').peekable();
    let mut kept: Vec<String> = Vec::new();
    while let Some(word) = words.next() {
        let rest: Vec<&str> = words.clone().take(4).collect();
        let (taken, last) = match rest.as_slice() {
            ["line", line, "column", column, ..] if is_number(line) && is_number(column) => {
                (4, *column)
            }
            ["position", position, ..] if is_number(position) => (2, *position),
            _ => (0, ""),
        };
        if word != "at" || taken == 0 {
            kept.push(word.to_owned());
            continue;
        }
        words.by_ref().take(taken).for_each(drop);
        if let (true, Some(before)) = (last.ends_with(','), kept.last_mut()) {
            before.push(',');
        }
    }
    kept.join(" ")
}

/// The place in a Secret, without the value that is quoted after it (P10).
fn unquoted(message: &str) -> String {
    let place = message
        .split_once(": ")
        .map(|(place, _)| place)
        .filter(|place| !place.contains(char::is_whitespace));
    match place {
        Some(place) => format!("{place} does not fit (the value is not shown)"),
        None => "a value does not fit (it is not shown)".to_owned(),
    }
}
