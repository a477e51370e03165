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
use super::store::Event;
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
        let timeout = opening.timeout;
        tokio::select! {
            () = sender.closed() => {}
            () = tokio::time::sleep(timeout) => {}
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
        fault,
        number,
        ..
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
    loop {
        let (lines, cut, stalled, bytes) = {
            let state = shared.state();
            let events = state.store.events_after(after);
            let lines: Vec<String> = events
                .iter()
                .filter_map(|event| selection.sees(event).map(|sort| told(sort, event)))
                .collect();
            after = state.store.version();
            let bytes = state.injected.get(injected..).unwrap_or_default().to_vec();
            injected = state.injected.len();
            (
                lines,
                number < state.cut_before,
                number < state.stalled_before,
                bytes,
            )
        };
        if stalled {
            std::future::pending::<()>().await;
        }
        let bytes: Vec<Injected> = bytes
            .into_iter()
            .filter(|bytes| bytes.resource == selection.resource && number < bytes.before)
            .collect();
        if !bytes.iter().any(|bytes| bytes.instead) {
            for line in lines {
                send(line).await;
            }
        }
        for injected in bytes {
            send(injected.bytes).await;
            match injected.then {
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
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn told(sort: &str, event: &Event) -> String {
    line(sort, &event.object)
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
