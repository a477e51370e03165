//! The body of a watch.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::handler::Selection;
use super::script::Fault;
use super::{Injected, Shared, Then};

type Piece = Result<Frame<Bytes>, std::io::Error>;

/// A body that is sent as it is made. An error breaks the connection.
pub struct Pieces(mpsc::Receiver<Piece>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.0.poll_recv(context)
    }
}

/// What a watch begins with.
pub struct Opening {
    pub selection: Selection,
    /// Objects that are sent first.
    pub initial: Vec<Arc<Value>>,
    /// Whether a bookmark says that they were all.
    pub marks_end: bool,
    /// The version that events follow.
    pub after: u64,
    pub timeout: Duration,
    pub fault: Option<Fault>,
    pub number: u64,
}

/// Starts a watch.
pub fn open(shared: Arc<Shared>, opening: Opening) -> Pieces {
    let (sender, receiver) = mpsc::channel(64);
    let resource = opening.selection.resource.clone();
    shared.state().store.watch_opened(&resource);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = run(&shared, opening, &sender) => {}
        }
        shared.state().store.watch_ended(&resource);
    });
    Pieces(receiver)
}

async fn run(shared: &Shared, opening: Opening, sender: &mpsc::Sender<Piece>) {
    let Opening {
        selection,
        initial,
        marks_end,
        mut after,
        timeout,
        fault,
        number,
    } = opening;
    let send = async |text: String| {
        let piece = Ok(Frame::data(Bytes::from(text)));
        // The client has gone; this ends with it.
        if sender.send(piece).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    for (index, object) in initial.iter().enumerate() {
        if matches!(fault, Some(Fault::StopAfter(most)) if index >= most) {
            std::future::pending::<()>().await;
        }
        send(line("ADDED", object)).await;
    }
    if marks_end {
        send(bookmark(after, true)).await;
    }
    let mut changes = shared.changes.subscribe();
    // Before this watch was opened.
    let mut injected = shared.state().injected.len();
    let end = tokio::time::sleep(timeout);
    tokio::pin!(end);
    loop {
        let (pieces, cut, stalled) = {
            let state = shared.state();
            let bytes: Vec<&Injected> = state
                .injected
                .iter()
                .skip(injected)
                .filter(|bytes| bytes.resource == selection.resource && number < bytes.before)
                .collect();
            injected = state.injected.len();
            let events = state.store.events_after(after).iter();
            let mut pieces: Vec<(String, Then)> = events
                .filter_map(|event| {
                    let instead = |bytes: &&&Injected| bytes.instead_of == Some(event.version);
                    match bytes.iter().find(instead) {
                        Some(instead) => Some((instead.bytes.clone(), instead.then)),
                        None => Some((line(selection.sees(event)?, &event.object), Then::GoOn)),
                    }
                })
                .collect();
            let further = bytes.iter().filter(|bytes| bytes.instead_of.is_none());
            pieces.extend(further.map(|bytes| (bytes.bytes.clone(), bytes.then)));
            after = state.store.version();
            let (cut, stalled) = (number < state.cut_before, number < state.stalled_before);
            (pieces, cut, stalled)
        };
        if stalled {
            std::future::pending::<()>().await;
        }
        for (bytes, then) in pieces {
            send(bytes).await;
            match then {
                Then::GoOn => {}
                Then::End => return,
                Then::Break => {
                    let broken = std::io::Error::other("broken by script");
                    drop(sender.send(Err(broken)).await);
                    return;
                }
            }
        }
        if cut {
            return;
        }
        tokio::select! {
            () = &mut end => return,
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// A line of a watch.
pub fn line(sort: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": sort, "object": object}))
}

/// A bookmark; `end` marks the end of initial events.
pub fn bookmark(version: u64, end: bool) -> String {
    let mut object = json!({
        "kind": "Bookmark",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string()},
    });
    if end {
        object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    line("BOOKMARK", &object)
}
