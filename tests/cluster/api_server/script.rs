//! What the server is to do wrong.

use std::time::Duration;

/// What to do with requests that fit.
#[derive(Clone, Debug)]
pub struct Rule {
    verb: String,
    resource: String,
    /// How many more times; none = for ever.
    left: Option<usize>,
    fault: Fault,
}

/// A way to fail.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A status code, with a `Status` as body.
    Status {
        code: u16,
        message: String,
        /// Seconds for the `Retry-After` field.
        retry_after: Option<u64>,
    },
    /// What a creation gets in a namespace that is being deleted.
    NamespaceTerminating,
    /// 200 with this body and nothing more.
    Body(String),
    /// The request is taken and never answered.
    Hang,
    /// The connection ends without an answer.
    Reset,
    /// The request is done after so long, even if nobody waits for its answer any more.
    Late(Duration),
    /// A watch that is asked for initial events begins with later ones, as servers do that do not
    /// know the parameter.
    IgnoreInitialEvents,
    /// A list or a streamed list stops after so many objects and never goes on.
    StopAfter(usize),
}

impl Rule {
    /// For requests of a verb on a resource, `*` = any; for ever.
    pub fn on(verb: &str, resource: &str, fault: Fault) -> Self {
        Self {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            left: None,
            fault,
        }
    }

    /// For the next requests only.
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }

    /// Takes the rule as used once, where it fits.
    pub fn take(&mut self, verb: &str, resource: &str) -> Option<Fault> {
        let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        if !fits(&self.verb, verb) || !fits(&self.resource, resource) || self.left == Some(0) {
            return None;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Some(self.fault.clone())
    }
}

impl Fault {
    /// A status code with a message.
    pub fn status(code: u16, message: &str) -> Self {
        Self::Status {
            code,
            message: message.to_owned(),
            retry_after: None,
        }
    }
}
