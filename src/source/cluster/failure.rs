//! Why a list or watch has ended, in words.

use std::time::Duration;

use crate::source::kind::{api_version, plural};
use crate::translate::finding::{Reason, Severity};
use crate::translate::report::{Report, Subject};
use crate::world::{Kind, Scope};

/// The longest time that a server may ask to be left alone.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Why a list or watch has ended, or a request has failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no connection: TCP, TLS, names, credentials that cannot be read.
    Unreachable(String),
    /// No head of an answer came in time.
    NoAnswer(Duration),
    /// The answer stopped coming.
    Silent(Duration),
    /// The connection broke, or what came is not what an API server says.
    Broken(String),
    /// A page or an event has more bytes than this.
    TooLong(usize),
    /// The server does not have the version any more that the watch is to continue from.
    Gone,
    /// The server does not stream lists.
    NotStreamed,
    /// The server says no.
    Refused {
        /// Status code of HTTP.
        code: u16,
        /// In its own words; may be empty.
        message: String,
        /// When it wants to be asked again; zero where it does not say.
        retry_after: Duration,
    },
}

impl Failure {
    /// For how long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Self::Refused { retry_after, .. } => (*retry_after).min(LONGEST_RETRY),
            _ => Duration::ZERO,
        }
    }

    /// Whether the same request may well succeed a little later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NoAnswer(_) | Self::Silent(_) | Self::Broken(_) => true,
            Self::TooLong(_) | Self::Gone | Self::NotStreamed => false,
            // RFC 9110: the client was too slow, or the server cannot now; RFC 6585: too many.
            Self::Refused { code, .. } => matches!(code, 408 | 429 | 500..),
        }
    }

    /// The failure as a problem of a scope. Of the same failure the same words, so that it is
    /// logged once, however often it is tried again.
    pub(super) fn report(&self, scope: &Scope, address: &str, listed: bool) -> Report {
        let (reason, what, remedy) = self.words(scope, address);
        let effect = if listed {
            "what was last known is still served"
        } else {
            "nothing is served until it has been listed"
        };
        Report {
            subject: Subject::from(scope),
            severity: Severity::Error,
            reason,
            field: String::new(),
            message: format!("{what}; {effect}; {remedy}"),
        }
    }

    fn words(&self, scope: &Scope, address: &str) -> (Reason, String, String) {
        let server = format!("the API server at {address}");
        let failed = |what: String, remedy: &str| (Reason::WatchFailed, what, remedy.to_owned());
        match self {
            Self::Unreachable(why) => failed(
                format!("{server} cannot be reached ({why})"),
                "check its address, the network between, and the certificates; it is tried again \
                 every few seconds",
            ),
            Self::NoAnswer(wait) | Self::Silent(wait) => failed(
                format!("{server} has not answered for {} s", wait.as_secs_f64()),
                "check its health and the network between; it is tried again every few seconds",
            ),
            Self::Broken(why) => failed(
                format!("the answer of {server} cannot be read ({why})"),
                "check its health and what stands between; it is tried again every few seconds",
            ),
            Self::TooLong(limit) => failed(
                format!("{server} sent more than {limit} bytes as one"),
                "it is tried again with smaller pages",
            ),
            Self::Gone => failed(
                format!("{server} does not have the version of its own list any more"),
                "check its health; it is listed again every few seconds",
            ),
            Self::NotStreamed => failed(
                format!("{server} did not end its list"),
                "it is listed again, by pages",
            ),
            Self::Refused { code, message, .. } => refusal(scope, &server, *code, message),
        }
    }
}

fn refusal(scope: &Scope, server: &str, code: u16, message: &str) -> (Reason, String, String) {
    let kind = scope.kind;
    let said = if message.is_empty() {
        format!("status {code}")
    } else {
        format!("status {code}: {message}")
    };
    match code {
        401 => (
            Reason::AccessDenied,
            format!("{server} does not accept our credentials ({said})"),
            "check the token of the service account, or the user of the kubeconfig".to_owned(),
        ),
        403 => {
            let rule = rule(kind);
            let grant = match &scope.namespace {
                Some(namespace) => format!("a Role in namespace {namespace}"),
                None => "a ClusterRole".to_owned(),
            };
            (
                Reason::AccessDenied,
                format!("{server} does not allow it ({said})"),
                format!("grant the service account the verbs list and watch on {rule} by {grant}"),
            )
        }
        404 => {
            let remedy = match kind {
                Kind::LoadBalancer => {
                    "install the CRD: holdfast crd | kubectl apply -f -, or the chart's".to_owned()
                }
                _ => "Kubernetes 1.33 and later serve it".to_owned(),
            };
            (
                Reason::KindNotServed,
                format!("{server} does not serve {kind} of {}", api_version(kind)),
                remedy,
            )
        }
        _ => (
            Reason::WatchFailed,
            format!("{server} refuses ({said})"),
            "check its health and log; it is tried again every few seconds".to_owned(),
        ),
    }
}

/// The resource, as a rule of RBAC names it.
fn rule(kind: Kind) -> String {
    let plural = plural(kind);
    match api_version(kind).rsplit_once('/') {
        Some((group, _)) => format!("{plural} of the API group {group}"),
        None => format!("{plural} of the core API group (\"\")"),
    }
}
