//! Requests to answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::patch::{self, Application};
use super::script::Fault;
use super::store::{Event, Key};
use super::watching::{self, Opening};
use super::{Request, Shared, State};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type Answer = Response<Body>;

/// What a list or watch is of.
#[derive(Clone)]
pub struct Selection {
    pub resource: String,
    namespace: Option<String>,
    fields: String,
    labels: String,
}

impl Selection {
    fn holds(&self, key: &Key, object: &Value) -> bool {
        let in_place = self.resource == key.resource
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == key.namespace);
        let field = |path: &str| {
            let pointer = format!("/{}", path.replace('.', "/"));
            object.pointer(&pointer).and_then(Value::as_str)
        };
        let label = |name: &str| object["metadata"]["labels"][name].as_str();
        in_place && fits(&self.fields, field) && fits(&self.labels, label)
    }

    /// What an event is to a watch of this: objects come into a selection and leave it.
    pub fn sees(&self, event: &Event) -> Option<&'static str> {
        let before = event.before.as_ref();
        let was = before.is_some_and(|before| self.holds(&event.key, before));
        let is = event.sort != "DELETED" && self.holds(&event.key, &event.object);
        match (was, is) {
            (false, false) => None,
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
        }
    }
}

/// Selectors of the forms `a=b`, `a==b`, `a!=b` and `a`, joined by commas.
fn fits<'a>(selector: &str, value: impl Fn(&str) -> Option<&'a str>) -> bool {
    let mut terms = selector.split(',').filter(|term| !term.is_empty());
    terms.all(|term| match term.split_once("!=") {
        Some((name, unwanted)) => value(name) != Some(unwanted),
        None => match term.split_once('=') {
            Some((name, wanted)) => value(name) == Some(wanted.trim_start_matches('=')),
            None => value(term).is_some(),
        },
    })
}

pub async fn answer(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Result<Answer, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?;
    let body = serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null);
    let Some(request) = read(&head, body) else {
        return Ok(text(404, "404 page not found"));
    };
    let fault = {
        let mut state = shared.state();
        state.requests.push(request.clone());
        let mut rules = state.script.iter_mut();
        rules.find_map(|rule| rule.take(request.verb, &request.resource))
    };
    match &fault {
        Some(Fault::Status {
            code,
            message,
            retry_after,
        }) => {
            let mut answer = status(*code, message);
            if let Some(seconds) = retry_after {
                let value = seconds.to_string().parse().unwrap();
                answer.headers_mut().insert("retry-after", value);
            }
            return Ok(answer);
        }
        Some(Fault::NamespaceTerminating) => {
            let mut body = body_of(403, "the namespace is being terminated");
            body["details"] = json!({"causes": [{"reason": "NamespaceTerminating"}]});
            return Ok(reply(403, &body));
        }
        Some(Fault::Body(body)) => return Ok(text(200, body)),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Reset) => return Err(std::io::Error::other("reset by script")),
        Some(Fault::Late(time)) => {
            let time = *time;
            // By itself: it is done even if nobody waits for the answer any more.
            let late = tokio::spawn(async move {
                tokio::time::sleep(time).await;
                act(&shared, &request, None)
            });
            return late.await.map_err(std::io::Error::other);
        }
        _ => {}
    }
    Ok(act(&shared, &request, fault))
}

fn act(shared: &Arc<Shared>, request: &Request, fault: Option<Fault>) -> Answer {
    let collection = request.resource.split('/').next().unwrap_or_default();
    if shared
        .state()
        .missing
        .iter()
        .any(|missing| missing == collection)
    {
        return text(404, "404 page not found");
    }
    let answer = match request.verb {
        "watch" => watch(shared, request, fault),
        "list" => list(&shared.state(), request),
        _ => write(&mut shared.state(), request),
    };
    shared.changed();
    answer
}

/// What is asked for; `None` for paths that are none of ours.
fn read(head: &http::request::Parts, body: Value) -> Option<Request> {
    let mut parts: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    match parts.first() {
        Some(&"api") if parts.len() > 2 => drop(parts.drain(..2)),
        Some(&"apis") if parts.len() > 3 => drop(parts.drain(..3)),
        _ => return None,
    }
    let mut namespace = None;
    if parts.len() > 2 && parts[0] == "namespaces" && parts[2] != "status" {
        namespace = Some(parts[1].to_owned());
        parts.drain(..2);
    }
    let mut resource = parts[0].to_owned();
    if let Some(subresource) = parts.get(2) {
        resource = format!("{resource}/{subresource}");
    }
    let name = parts.get(1).map(|&name| name.to_owned());
    let query: Vec<(String, String)> = head
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect();
    let watches = query
        .iter()
        .any(|(key, value)| key == "watch" && value == "true");
    let verb = match (&head.method, &name) {
        (&Method::GET, None) if watches => "watch",
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, None) => "create",
        (&Method::PUT, Some(_)) => "update",
        (&Method::PATCH, Some(_)) => "patch",
        (&Method::DELETE, Some(_)) => "delete",
        _ => return None,
    };
    let header = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Some(Request {
        verb,
        resource,
        uri: head.uri.to_string(),
        namespace,
        name,
        query,
        content_type: header("content-type"),
        user_agent: header("user-agent"),
        body,
    })
}

fn list(state: &State, request: &Request) -> Answer {
    let store = &state.store;
    let selection = selection(request);
    let limit: usize = request
        .parameter("limit")
        .map_or(usize::MAX, |limit| limit.parse().unwrap());
    // VERSION/NAMESPACE/NAME of the last object of the page before.
    let token = request
        .parameter("continue")
        .filter(|token| !token.is_empty());
    let mut version = store.version();
    let mut last = None;
    if let Some(token) = token {
        let mut parts = token.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap();
        version = next().parse().unwrap();
        last = Some(Key {
            resource: selection.resource.clone(),
            namespace: next(),
            name: next(),
        });
        if version < store.compacted() {
            return status(410, "The provided continue parameter is too old");
        }
    }
    let namespace = selection.namespace.as_deref();
    let mut objects = store
        .of(&selection.resource, namespace)
        .filter(|(key, object)| last.as_ref() < Some(key) && selection.holds(key, object));
    let page: Vec<(&Key, &Arc<Value>)> = objects.by_ref().take(limit).collect();
    let mut meta = json!({"resourceVersion": version.to_string()});
    if let (Some(_), Some((key, _))) = (objects.next(), page.last()) {
        meta["continue"] = json!(format!("{version}/{}/{}", key.namespace, key.name));
    }
    let items: Vec<&Value> = page.into_iter().map(|(_, object)| &**object).collect();
    reply(
        200,
        &json!({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items}),
    )
}

fn watch(shared: &Arc<Shared>, request: &Request, fault: Option<Fault>) -> Answer {
    let mut state = shared.state();
    let selection = selection(request);
    let wants_list = request.parameter("sendInitialEvents") == Some("true")
        && !matches!(fault, Some(Fault::IgnoreInitialEvents));
    let asked: u64 = request
        .parameter("resourceVersion")
        .and_then(|version| version.parse().ok())
        .unwrap_or_default();
    let begins_anywhere = asked == 0;
    if !begins_anywhere && asked < state.store.compacted() {
        let gone = watching::line("ERROR", &body_of(410, "too old resource version"));
        return text(200, &gone);
    }
    let initial = if wants_list || begins_anywhere {
        let objects = state
            .store
            .of(&selection.resource, selection.namespace.as_deref());
        let held = objects.filter(|(key, object)| selection.holds(key, object));
        held.map(|(_, object)| Arc::clone(object)).collect()
    } else {
        Vec::new()
    };
    let seconds = request
        .parameter("timeoutSeconds")
        .map_or(300, |seconds| seconds.parse().unwrap());
    let opening = Opening {
        selection,
        initial,
        marks_end: wants_list,
        after: if begins_anywhere {
            state.store.version()
        } else {
            asked
        },
        timeout: Duration::from_secs(seconds),
        fault,
        number: state.opened,
    };
    state.opened += 1;
    drop(state);
    let body = watching::open(Arc::clone(shared), opening);
    Response::new(body.boxed_unsync())
}

fn selection(request: &Request) -> Selection {
    let text = |name| request.parameter(name).unwrap_or_default().to_owned();
    Selection {
        resource: request.resource.clone(),
        namespace: request.namespace.clone(),
        fields: text("fieldSelector"),
        labels: text("labelSelector"),
    }
}

/// GET, POST, PUT, PATCH and DELETE of one object.
fn write(state: &mut State, request: &Request) -> Answer {
    let (resource, subresource) = match request.resource.split_once('/') {
        Some((resource, subresource)) => (resource, subresource),
        None => (request.resource.as_str(), ""),
    };
    let mut body = request.body.clone();
    let name = match &request.name {
        Some(name) => name.clone(),
        None => match body["metadata"]["name"].as_str() {
            Some(name) => name.to_owned(),
            None => {
                let prefix = body["metadata"]["generateName"]
                    .as_str()
                    .unwrap_or_default();
                format!("{prefix}{:05}", state.store.version())
            }
        },
    };
    let key = Key {
        resource: resource.to_owned(),
        namespace: request.namespace.clone().unwrap_or_default(),
        name,
    };
    let before = state.store.get(&key).cloned();
    let missing = || status(404, &format!("{resource} {:?} not found", key.name));
    let mut object = match (request.verb, before) {
        ("create", Some(_)) => {
            return status(409, &format!("{resource} {:?} already exists", key.name));
        }
        ("create", None) => Value::Null,
        ("get", Some(before)) => return reply(200, &before),
        ("delete", Some(before)) => {
            let uid = &body["preconditions"]["uid"];
            if uid.is_string() && *uid != before["metadata"]["uid"] {
                return status(409, "the UID in the precondition is another");
            }
            let deleted = state.store.delete(&key).unwrap_or_default();
            return reply(200, &deleted);
        }
        (_, Some(before)) => (*before).clone(),
        ("patch", None)
            if request.content_type.contains("apply-patch") && subresource.is_empty() =>
        {
            json!({
                "apiVersion": body["apiVersion"],
                "kind": body["kind"],
                "metadata": {"name": key.name, "namespace": key.namespace},
            })
        }
        (_, None) => return missing(),
    };
    let current = object["metadata"]["resourceVersion"].clone();
    let stated = &body["metadata"]["resourceVersion"];
    if stated.is_string() && !current.is_null() && *stated != current {
        let message =
            "the object has been modified; please apply your changes to the latest version";
        return status(409, message);
    }
    let is_status = subresource == "status";
    let kept = object.get("status").cloned();
    if request.verb == "patch" && request.content_type.contains("apply-patch") {
        if is_status {
            body.as_object_mut()
                .unwrap()
                .retain(|field, _| field == "status");
        }
        let application = Application {
            manager: request.parameter("fieldManager").unwrap_or_default(),
            subresource,
            force: request.parameter("force") == Some("true"),
            fields: &body,
        };
        if let Err(path) = patch::apply(&mut object, &application) {
            return status(409, &format!("Apply failed with 1 conflict: {path}"));
        }
    } else if request.verb == "patch" {
        if is_status {
            body.as_object_mut()
                .unwrap()
                .retain(|field, _| field == "status");
        }
        patch::merge(&mut object, &body);
    } else if is_status {
        object["status"] = body["status"].clone();
    } else {
        object = body;
        object["metadata"]["name"] = json!(key.name);
        if !key.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(key.namespace);
        }
    }
    if !is_status {
        // Only the subresource writes it.
        match kept {
            Some(kept) => object["status"] = kept,
            None => drop(object.as_object_mut().unwrap().remove("status")),
        }
    }
    let code = if request.verb == "create" { 201 } else { 200 };
    reply(code, &state.store.put(object))
}

fn body_of(code: u16, message: &str) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    })
}

fn status(code: u16, message: &str) -> Answer {
    reply(code, &body_of(code, message))
}

fn reply(code: u16, body: &Value) -> Answer {
    let mut answer = text(code, &body.to_string());
    let json = "application/json".parse().unwrap();
    answer.headers_mut().insert("content-type", json);
    answer
}

fn text(code: u16, body: &str) -> Answer {
    let body = Full::new(Bytes::from(body.to_owned()));
    let mut answer = Response::new(
        body.map_err(|never: Infallible| match never {})
            .boxed_unsync(),
    );
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}

/// Undoes percent-encoding and `+`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next().unwrap()).to_digit(16).unwrap();
                let (high, low) = (digit(), digit());
                u8::try_from(high * 16 + low).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
