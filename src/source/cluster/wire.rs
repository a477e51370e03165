//! The JSON of lists, watches and single objects, to stripped objects.
//!
//! An object is decoded on its own, out of the text of its list or event. So one that cannot be
//! read takes no other with it, and nothing is held whole.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::Status;
use super::failure::Failure;
use crate::source::kind::decode_kind;
use crate::source::manifest;
use crate::translate::finding::{Reason, Severity};
use crate::translate::report::{Report, Subject};
use crate::world::{Kind, Object, ObjectKey, ObjectName};

/// An object whose name alone can be read, and why.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) name: ObjectName,
    pub(super) report: Report,
}

/// One object of the server.
pub(super) type Item = Result<Object, Unreadable>;

/// An event of a watch.
#[derive(Debug)]
pub(super) enum Event {
    /// An object is there or has changed.
    Changed(Item),
    /// An object is gone.
    Deleted(ObjectName),
    /// Nothing has happened; with `true`, the objects before it were all there are.
    Bookmark(bool),
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// The version of the list.
    pub(super) version: String,
    /// Where the next page begins.
    pub(super) token: Option<String>,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type", borrow)]
    sort: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct RawPage<'a> {
    metadata: ListMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    token: Option<String>,
}

/// What can be read of any object.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: HeadMeta<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    resource_version: Cow<'a, str>,
    annotations: Option<Bookmarked>,
}

#[derive(Deserialize)]
struct Bookmarked {
    #[serde(rename = "k8s.io/initial-events-end")]
    initial_events_end: Option<String>,
}

/// Reads a line of a watch: the event, and the version of the object or bookmark.
pub(super) fn event(kind: Kind, line: &[u8]) -> Result<(Event, String), Failure> {
    let RawEvent { sort, object } = parse(line)?;
    if sort == "ERROR" {
        let status: Status = parse(object.get().as_bytes())?;
        return Err(status.failure(0, None));
    }
    let Head { metadata } = parse(object.get().as_bytes())?;
    if metadata.resource_version.is_empty() {
        return Err(Failure::Broken("an event without a version".to_owned()));
    }
    let event = match &*sort {
        "ADDED" | "MODIFIED" => Event::Changed(item(kind, object)?),
        "DELETED" => Event::Deleted(metadata.object_name()),
        "BOOKMARK" => {
            let end = metadata.annotations.as_ref();
            let end = end.and_then(|annotations| annotations.initial_events_end.as_deref());
            Event::Bookmark(end == Some("true"))
        }
        _ => return Err(Failure::Broken("an event of an unknown type".to_owned())),
    };
    Ok((event, metadata.resource_version.into_owned()))
}

/// Reads a page of a list.
pub(super) fn page(kind: Kind, bytes: &[u8]) -> Result<Page, Failure> {
    let RawPage { metadata, items } = parse(bytes)?;
    let token = metadata.token.filter(|token| !token.is_empty());
    let version = metadata.resource_version.unwrap_or_default();
    if version.is_empty() {
        return Err(Failure::Broken("a list without a version".to_owned()));
    }
    let items = items.unwrap_or_default();
    Ok(Page {
        items: items
            .into_iter()
            .map(|raw| item(kind, raw))
            .collect::<Result<_, _>>()?,
        version,
        token,
    })
}

/// Reads the metadata of an object, of whatever kind.
pub(super) fn metadata(bytes: &[u8]) -> Result<ObjectMeta, Failure> {
    #[derive(Deserialize)]
    struct Whole {
        metadata: ObjectMeta,
    }
    let Whole { metadata } = parse(bytes)?;
    Ok(metadata)
}

fn item(kind: Kind, raw: &RawValue) -> Result<Item, Failure> {
    let json = raw.get();
    let error = match decode_kind(kind, &mut serde_json::Deserializer::from_str(json)) {
        Ok(object) => return Ok(Ok(object)),
        Err(error) => error,
    };
    let Head { metadata } = parse(json.as_bytes())?;
    let name = metadata.object_name();
    // The decoder of JSON quotes values, which in a Secret are keys (P10).
    let why = manifest::why_unreadable(kind, json).unwrap_or_else(|| match kind {
        Kind::Secret => "a value does not fit (it is not shown)".to_owned(),
        _ => error.to_string(),
    });
    let (field, why) = match why.split_once(": ") {
        Some((field, why)) if !field.contains(char::is_whitespace) => (field, why),
        _ => ("", why.as_str()),
    };
    let remedy = match kind {
        Kind::LoadBalancer => {
            "correct it, and where the API server accepts it as it is, bring the CRD up to date \
             (holdfast crd | kubectl apply -f -)"
        }
        _ => "correct it",
    };
    let report = Report {
        subject: Subject::Object(ObjectKey::new(kind, name.clone())),
        severity: Severity::Error,
        reason: Reason::SpecInvalid,
        field: field.to_owned(),
        message: format!(
            "{why}, so this state of the object is not served; one that was read before stays in \
             force; {remedy}"
        ),
    };
    Ok(Err(Unreadable { name, report }))
}

impl HeadMeta<'_> {
    fn object_name(&self) -> ObjectName {
        ObjectName::new(&*self.namespace, &*self.name)
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Failure> {
    // Its Display quotes values.
    serde_json::from_slice(bytes).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "is not what an API server says",
            _ => "is no JSON",
        };
        Failure::Broken(format!("what it sent {what}"))
    })
}
