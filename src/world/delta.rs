//! What a source says.

use std::sync::Arc;

use super::key::{Kind, ObjectKey, ObjectName};
use super::object::Object;
use super::pod::{PodEnd, PodId};

/// One thing that a source says.
#[derive(Clone, Debug)]
pub enum Delta {
    /// An object was created or changed.
    Apply(Object),
    /// An object is gone.
    Delete(ObjectKey),
    /// These are all objects of a scope: the first list, or a list after a gap. Objects of the
    /// scope that are not in it are gone. Of some only the name could be read: they stay as they
    /// are.
    Reset(Scope, Vec<Object>, Vec<ObjectName>),
    /// A pod that an EndpointSlice names as terminating ends then. Counts for as long as one does.
    PodEnds(Arc<PodId>, PodEnd),
}

/// What a list is a list of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// The kind of the objects.
    pub kind: Kind,
    /// The namespace they are in; `None` = every namespace, and cluster-scoped kinds.
    pub namespace: Option<Arc<str>>,
}

impl Scope {
    /// Whether an object of the kind is in the scope.
    #[must_use]
    pub fn contains(&self, name: &ObjectName) -> bool {
        self.namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == name.namespace)
    }
}

impl From<Kind> for Scope {
    /// All objects of the kind.
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            namespace: None,
        }
    }
}
